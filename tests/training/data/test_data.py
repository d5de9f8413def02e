"""Data of one's own: whatever its form, the same events give the same Dataset, and what is left out is counted."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman_training.data import Columns, DataError, Dataset, load

WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "parquet": pl.DataFrame.write_parquet,
    "csv": pl.DataFrame.write_csv,
    "tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
}


def write(frame: pl.DataFrame, folder: Path, name: str = "events.parquet") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    WRITERS[name.rpartition(".")[2]](frame, folder / name)
    return folder / name


def read(path: Path, **options: Any) -> Dataset:
    return load(str(path), cache=path.parent, **{"min_user_events": 1, **options})


def events_of(data: Dataset) -> list[tuple[int, str, int]]:
    ids = data.items["item_id"]
    return [(user, ids[item], time) for user, item, time in data.events.iter_rows()]


EVENTS = pl.DataFrame(
    {
        "user_id": ["u2", "u1", "u2", "u1", "u10", "u1"],
        "item_id": ["b", "é", "Z", "a", "a", "é"],
        "timestamp": [30, 20, 10, 10, 5, 40],
    }
)


def test_users_and_items_are_numbered_by_the_bytes_of_their_ids(tmp_path: Path) -> None:
    data = read(write(EVENTS, tmp_path))
    assert data.items["item_id"].to_list() == ["Z", "a", "b", "é"]
    assert events_of(data) == [(0, "a", 10), (0, "é", 20), (0, "é", 40), (1, "a", 5), (2, "Z", 10), (2, "b", 30)]
    assert dict(data.events.schema) == {"user": pl.UInt32(), "item": pl.UInt32(), "time": pl.Int64()}
    assert (data.name, data.has_clock, data.report.rows) == ("events", True, 6)


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("abcdeé"), st.integers(-5, 50)),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[2],
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, shuffled=st.randoms(use_true_random=False), kind=st.sampled_from(["csv", "tsv", "parquet"]))
def test_neither_the_order_of_rows_nor_the_kind_of_file_matters(
    tmp_path: Path, rows: list[tuple[int, str, int]], shuffled: Any, kind: str
) -> None:
    schema = ["user", "item", "time"]
    one = read(write(pl.DataFrame(rows, schema, orient="row"), tmp_path))
    shuffled.shuffle(rows)
    other = read(write(pl.DataFrame(rows, schema, orient="row"), tmp_path, f"events.{kind}"))
    assert one.sha256 == other.sha256
    assert one.events.equals(other.events)
    assert one.items.equals(other.items)


def test_the_hash_sees_events_items_and_attributes(tmp_path: Path) -> None:
    titles = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "year": [1.0, None]})
    path, items = write(EVENTS, tmp_path), write(titles, tmp_path, "items.parquet")
    later = write(EVENTS.with_columns(pl.col("timestamp") * 2), tmp_path, "later.parquet")
    dated = write(titles.with_columns(year=2.0), tmp_path, "dated.parquet")
    different = [read(path), read(later), read(path, items=items), read(path, items=dated)]
    assert len({data.sha256 for data in different}) == 4
    assert read(path, items=items).sha256 == different[2].sha256


def test_ties_in_time_keep_the_order_of_the_file(tmp_path: Path) -> None:
    items = [f"i{n * 37 % 10_007}" for n in range(10_007)]
    frame = pl.DataFrame({"user": ["u"] * 10_007, "item": items, "time": [7] * 10_007})
    assert [item for _, item, _ in events_of(read(write(frame, tmp_path)))] == items


def test_positions_are_an_order_but_no_clock(tmp_path: Path) -> None:
    data = read(write(EVENTS.rename({"timestamp": "position"}), tmp_path))
    assert not data.has_clock
    assert data.events["time"].to_list() == [10, 20, 40, 5, 10, 30]
    both = write(EVENTS.with_columns(at=pl.Series([2, 2, 1, 1, 1, 3])), tmp_path)
    assert read(both).has_clock
    assert not read(both, columns=Columns(position="at")).has_clock


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["1.5", "-2", "3e3"], [-2.0, 1.5, 3000.0]),
        (["1700000000000000001", "1700000000000000000"], [1700000000000000000, 1700000000000000001]),
        (["1970-01-01T00:00:01Z", "1970-01-01T00:00:00Z"], [0, 1_000_000]),
        (["1970-01-02"], [86_400_000_000]),
        ([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)], [1_000_000]),
        ([2.5, float("nan"), float("inf"), 1.0], [1.0, 2.5]),
    ],
)
def test_times_come_in_many_forms(tmp_path: Path, times: list[Any], expected: list[float]) -> None:
    frame = pl.DataFrame({"user": ["u"] * len(times), "item": ["i"] * len(times), "time": times})
    data = read(write(frame, tmp_path))
    assert data.events["time"].to_list() == expected
    assert data.report.malformed_rows == len(times) - len(expected)


def test_malformed_rows_and_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "userId,movieId,timestamp,rating,mood\nu,a,1,5,\n,a,2,5,\nu,,3,5,\nu,a,x,5,\nu,a,1,4,\nu,a,6,2,\nu\n"
    )
    data = read(tmp_path / "events.csv")
    assert events_of(data) == [(0, "a", 1), (0, "a", 6)]
    assert (data.report.rows, data.report.malformed_rows, data.report.duplicate_events) == (7, 4, 1)
    assert data.report.ignored_columns == ("rating", "mood")
    liked = read(tmp_path / "events.csv", min_rating=3)
    assert events_of(liked) == [(0, "a", 1)]
    assert (liked.report.malformed_rows, liked.report.low_ratings, liked.report.duplicate_events) == (4, 1, 1)


def test_minima_hold_for_users_and_items_at_once(tmp_path: Path) -> None:
    # c has too few; without c, u3 has too few; without u3, b has too few.
    pairs = ["u1 a", "u1 a", "u1 b", "u2 a", "u2 a", "u3 b", "u3 c"]
    frame = pl.DataFrame([(*pair.split(), n) for n, pair in enumerate(pairs)], ["user", "item", "time"], orient="row")
    data = read(write(frame, tmp_path), min_user_events=2, min_item_events=2)
    assert events_of(data) == [(0, "a", 0), (0, "a", 1), (1, "a", 3), (1, "a", 4)]
    assert (data.report.rare_users, data.report.rare_items, data.report.rare_events) == (1, 2, 3)
    by_default = load(str(tmp_path / "events.parquet"), cache=tmp_path)
    assert (by_default.report.rare_users, by_default.events["user"].n_unique()) == (2, 1)


ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "Z", "a", None, "cold"],
        "title": ["007", None, "again", "no id", "never met"],
        "tags": [["z", "x", "y", "x", "", None, "a"], None, [], [], []],
        "maker": ["me", "", "you", "you", "you"],
        "sold": [True, None, False, False, False],
        "price": [1, 2, 3, 4, 5],
        "weight": [float("nan"), 0.5, 1.0, 1.0, 1.0],
        "codes": [[1, 2], [3], [], [], []],
        "made": [datetime(2000, 1, 1, tzinfo=UTC)] * 5,
    }
)


def test_attributes_become_lists_of_text_or_numbers(tmp_path: Path) -> None:
    data = read(write(EVENTS, tmp_path), items=write(ITEMS, tmp_path, "items.parquet"))
    assert data.items.rows() == [
        ("Z", "Z", [], [], [], 2.0, 0.5, ["3"]),
        ("a", "007", ["z", "x", "y", "a"], ["me"], ["true"], 1.0, None, ["1", "2"]),
        ("b", "b", [], [], [], None, None, []),
        ("é", "é", [], [], [], None, None, []),
    ]
    assert data.items.columns == ["item_id", "title", "tags", "maker", "sold", "price", "weight", "codes"]
    report = data.report
    assert (report.items_without_events, report.items_without_row, report.malformed_item_rows) == (1, 2, 2)
    assert report.ignored_columns == ("made",)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_an_item_table_of_text_says_the_same(tmp_path: Path, kind: str) -> None:
    flat = ITEMS.select("item_id", "title", "maker", "sold", "price", weight=pl.col("weight").fill_nan(None))
    events = write(EVENTS, tmp_path)
    typed = read(events, items=write(flat, tmp_path, "items.parquet"))
    text = read(events, items=write(flat, tmp_path, f"items.{kind}"))
    assert text.items.equals(typed.items)
    assert text.sha256 == typed.sha256


def test_ids_and_titles_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,year\n007,1984,1949\n")
    events = write(EVENTS.with_columns(item_id=pl.lit("007")), tmp_path, "events.csv")
    assert read(events, items=tmp_path / "items.csv").items.rows() == [("007", "1984", 1949.0)]


def test_a_folder_holds_both_tables(tmp_path: Path) -> None:
    write(EVENTS.with_columns(item_id=pl.Series([7, 1, 2, 10, 10, 1])), tmp_path / "shop", "interactions.csv")
    write(pl.DataFrame({"item_id": ["7", "10"], "name": ["seven", "ten"]}), tmp_path / "shop", "items.tsv")
    data = read(tmp_path / "shop")
    assert data.name == "shop"
    assert data.items.rows() == [("1", "1"), ("10", "ten"), ("2", "2"), ("7", "seven")]


def test_column_names_can_be_given(tmp_path: Path) -> None:
    events = write(EVENTS.rename({"user_id": "who", "item_id": "what", "timestamp": "when"}), tmp_path)
    items = write(pl.DataFrame({"item_id": ["a"], "label": ["A"]}), tmp_path, "items.csv")
    data = read(events, items=items, columns=Columns(user="who", item="what", timestamp="when", title="label"))
    assert data.items.row(1) == ("a", "A")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"events.csv: cannot be read: empty"),
        ("user,item,time\n", {}, r"events.csv: no rows"),
        ("user,item\nu,i\n", {}, r"no column for the timestamp \(timestamp, time\); it has user, item\. Name"),
        ("user,thing,time\nu,i,1\n", {}, r"no column for the item \(item_id, .*it has user, thing, time"),
        (
            "user,item,time\nu,i,1\n",
            {"columns": Columns(user="uid")},
            r"no column 'uid' for the user; it has user, item",
        ),
        ("user,item,time\nu,i,1\n", {"min_rating": 1.0}, r"no column for the rating"),
        (
            "user,item,time\nu,i,never\n",
            {},
            r"events.csv: column 'time': 1 of 1 values are no time .* 'never': give ISO 8601",
        ),
        ("user,item,time\nu,i,1\n", {"min_user_events": 2}, r"no event is left .* 1 of users or items with too few"),
        ("user,item,time\nu,i,1,2,3\n", {}, r"events.csv: cannot be read: found more fields"),
        ("user,item,time\nu,i,1\n", {"items": Path("none.csv")}, r"none.csv: there is no such file"),
    ],
)
def test_unusable_data_is_refused_with_the_reason(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "events.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "events.csv", **options)


def test_paths_that_hold_no_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "events.json").write_text("{}")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    for name, message in [
        ("none.csv", "there is no such file or folder"),
        ("events.json", "of no known kind; give .parquet, .csv or .tsv"),
        ("broken.parquet", "cannot be read"),
        (".", "neither a MovieLens folder nor .* it has broken.parquet, events.json"),
    ]:
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)
