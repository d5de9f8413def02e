"""Histories, from the files that `steersman train` takes."""

from pathlib import Path

import polars as pl
import pytest

from steersman_loadtest import histories
from steersman_loadtest.errors import LoadTestError
from steersman_loadtest.histories import make_up_histories, read_histories
from steersman_loadtest.interactions import HistoryColumns

EVENTS = {"user_id": [2, 1, 1, 2, 3, 1], "item_id": [10, 20, 30, 40, 50, 20], "timestamp": [50, 9, 1, 4, 1, 9]}
# User 3 did one thing only.
WANTED = [["30", "20", "20"], ["40", "10"]]


def test_users_in_the_order_of_time(tmp_path: Path) -> None:
    frame = pl.DataFrame(EVENTS)
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_csv(tmp_path / "interactions.tsv", separator="\t")
    frame.rename({"user_id": "userId", "item_id": "movieId"}).write_csv(tmp_path / "ratings.csv")
    frame.rename({"timestamp": "position"}).cast({"user_id": pl.String}).write_parquet(tmp_path / "b.parquet")
    frame.cast(pl.String).write_parquet(tmp_path / "c.parquet")
    for name in ("a.parquet", "a.csv", "", "ratings.csv", "b.parquet", "c.parquet"):
        found = read_histories(tmp_path / name, seed=0)
        assert found.item_ids == WANTED, name
        assert found.real


def test_rows_that_say_too_little_are_left_out(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": ["a", "a", None, "a"], "item": ["1", None, "2", "3"], "time": [1.0, 2.0, 3.0, 0.5]})
    frame.write_parquet(tmp_path / "a.parquet")
    assert read_histories(tmp_path / "a.parquet", seed=0).item_ids == [["3", "1"]]


def test_ids_in_text_files_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\n01,007,1\n1,8,1\n01,07,2\n01,,3\n1,9,0\n")
    assert read_histories(tmp_path / "a.csv", seed=0).item_ids == [["007", "07"], ["9", "8"]]


def test_ids_that_came_as_floats_are_whole_numbers(tmp_path: Path) -> None:
    frame = pl.DataFrame(EVENTS).cast({"user_id": pl.Float64, "item_id": pl.Float64})
    frame.extend(pl.DataFrame({"user_id": [1.0], "item_id": [None], "timestamp": [3]}, schema=frame.schema))
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")
    for name in ("a.parquet", "a.csv"):
        found = read_histories(tmp_path / name, seed=0)
        assert found.item_ids == WANTED, name
        assert "  left out   no item: 1" in found.summary


def test_words_for_nothing_are_no_ids_and_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "user,item,time\nu,a,2\nu, b ,1\nNULL,a,1\nu,\\N,1\nu,nan,7\nu,c,x\nu,d,0\nu,d,3\nu,e,4\n"
    )
    found = read_histories(tmp_path / "a.csv", seed=0)
    assert found.item_ids == [["d", "b", "a", "d", "e"]]
    assert "  left out   no user: 1; no item: 2; no time: 1" in found.summary


@pytest.mark.parametrize(
    "times",
    [
        ["12/31/2020", "2/1/2021", "10/1/2021"],
        ["31.12.20", "1.2.21", "1.10.21"],
        ["12/31/2020 12:05 AM", "12/31/2020 1:05 AM", "12/31/2020 12:05 PM"],
        ["2020-12-31T23:00:00-02:00", "2021-01-01T01:30:00+00:00", "2021-01-01T04:00:00+02:00"],
        ["9", "10.5", "1e2"],
        ["1700000000000000001", "1700000000000000002", "1700000000000000003"],
    ],
)
def test_times_of_any_form_are_sorted(tmp_path: Path, times: list[str]) -> None:
    frame = pl.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "time": times}).reverse()
    frame.write_csv(tmp_path / "a.csv", separator=";")
    assert read_histories(tmp_path / "a.csv", seed=0).item_ids == [["a", "b", "c"]]


def test_columns_can_be_named(tmp_path: Path) -> None:
    frame = pl.DataFrame(EVENTS).rename({"user_id": "who", "item_id": "what", "timestamp": "When it was"})
    frame.write_csv(tmp_path / "a.csv")
    with pytest.raises(
        LoadTestError, match=r"no column user_id or .*; it has who, what, When it was\. .*: --user-column"
    ):
        read_histories(tmp_path / "a.csv", seed=0)
    found = read_histories(tmp_path / "a.csv", seed=0, columns=HistoryColumns("who", "what", "When it was"))
    assert found.item_ids == WANTED
    assert "  columns    user: who; item: what; time: When it was" in found.summary
    with pytest.raises(LoadTestError, match=r"no column where; it has who, .*: --item-column"):
        read_histories(tmp_path / "a.csv", seed=0, columns=HistoryColumns("who", "where"))
    frame.rename({"who": "User ID", "what": "ITEM", "When it was": "Timestamp"}).write_csv(tmp_path / "b.csv")
    assert read_histories(tmp_path / "b.csv", seed=0).item_ids == WANTED


def test_many_users_are_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "MAX_HISTORIES", 10)
    users = [user for user in range(100) for _ in range(2)]
    pl.DataFrame({"user": users, "item": users, "time": users}).write_parquet(tmp_path / "a.parquet")
    drawn = [read_histories(tmp_path / "a.parquet", seed=seed).item_ids for seed in (0, 0, 1)]
    assert len(drawn[0]) == 10
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing.csv", None, "there is no such file"),
        ("a.txt", "x", "of no known kind"),
        ("a.parquet", "no parquet", "cannot be read"),
        ("empty.csv", "", "cannot be read"),
        ("a.csv", "user_id,timestamp\n1,2\n", "no column item_id or item"),
        ("b.csv", "user,item,time\n1,2,3\n2,3,4\n", "no user with two events"),
        ("c.csv", "user,item,time\n", "no user with two events"),
        (
            "d.csv",
            "user,item,time\n1,2,3/4/2021\n1,3,5/6/2021\n",
            "column 'time': '3/4/2021' may be month/day/year or day",
        ),
        ("e.csv", "user,item,time\n1,2,Mon 3\n1,3,Tue 4\n", "column 'time': no times that can be read, as 'Mon 3'"),
        ("f.csv", "user,item,time\n1,2,3\n,3,4\nNULL,3,4\n", "only 1 of 3 rows are whole: no user: 2"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(LoadTestError, match=why) as caught:
        read_histories(tmp_path / name, seed=0)
    assert name in str(caught.value)


def test_a_folder_without_interactions(tmp_path: Path) -> None:
    with pytest.raises(LoadTestError, match=r"has no interactions\.parquet"):
        read_histories(tmp_path, seed=0)


def test_made_up_histories_say_so() -> None:
    items = [str(item) for item in range(100)]
    found = make_up_histories(items, seed=0)
    assert not found.real
    assert "made up" in found.source
    assert len(found.item_ids) > 100
    assert all(2 <= len(history) == len(set(history)) for history in found.item_ids)
    assert make_up_histories(items, seed=0) == found
    with pytest.raises(LoadTestError, match="--histories"):
        make_up_histories([], seed=0)
