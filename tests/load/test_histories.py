"""Histories, from the files that `steersman train` takes."""

from pathlib import Path

import polars as pl
import pytest

from steersman_service.errors import LoadTestError
from steersman_service.loadtest import histories
from steersman_service.loadtest.histories import make_up_histories, read_histories

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
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\n01,007,1\n1,8,1\n01,NA,2\n01,,3\n1,9,0\n")
    assert read_histories(tmp_path / "a.csv", seed=0).item_ids == [["007", "NA"], ["9", "8"]]


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
