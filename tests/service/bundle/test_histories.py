"""histories.parquet: read, searched and shuffled; refused where it is broken; lacking in older bundles."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steersman_service.bundle.bundle import HISTORIES, Bundle, load_bundle
from steersman_service.bundle.histories import Histories, SampleHistory, sample_histories
from steersman_service.bundle.items import Items
from tests.service.bundle.test_bundle import refused, resign

TABLE = pa.table(
    {
        "items": pa.array([[0, 1, 2, 3, 4, 5, 6], [10], [7, 11, 59], [10, 10]], pa.list_(pa.int32())),
        "events_before": pa.array([3, 0, 0, 2**40], pa.int64()),
    }
)


@pytest.fixture(scope="module")
def histories(bundle: Bundle, items: Items) -> Histories:
    return Histories(replace(bundle, histories=TABLE), items)


def test_a_history_has_ids_and_its_latest_titles(histories: Histories) -> None:
    titles = [f"Film {number}" for number in (6, 5, 4, 3, 2)]
    assert histories[0] == SampleHistory([str(100 + row) for row in range(7)], 3, titles)
    assert histories[3] == SampleHistory(["110", "110"], 2**40, ["Film 10", "Film 10"])
    assert histories[2].latest_titles == ["The Film 59", "Film 11", "Film 7"]
    assert len(histories) == 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [0, 1, 2, 3]),
        ("film", [0, 1, 2, 3]),
        ("FILM 10", [1, 3]),
        ("the 59", [2]),
        ("11 film", [2]),
        ("7 59", []),  # no title has both
        ("film 8", []),
        (" ", []),
        ("...", []),
        ("100", []),
    ],
)
def test_a_text_is_looked_for_in_titles(histories: Histories, text: str, found: list[int]) -> None:
    assert histories.find(text, 0).tolist() == found
    assert sorted(histories.find(text, 5).tolist()) == found


def test_a_seed_shuffles_and_the_same_seed_does_it_again(bundle: Bundle, items: Items) -> None:
    histories = Histories(bundle, items)
    everything = list(range(len(histories)))
    first, again, other = (histories.find("", seed).tolist() for seed in (1, 1, 2**32 - 1))
    assert first == again
    assert sorted(first) == sorted(other) == histories.find("", 0).tolist() == everything
    assert len({tuple(each) for each in (first, other, everything)}) == 3
    some = set(histories.find("film 12", 0).tolist())
    assert 0 < len(some) < len(everything)
    assert histories.find("film 12", 1).tolist() == [place for place in first if place in some]


def test_the_first_histories_are_those_of_the_table(bundle: Bundle, items: Items) -> None:
    histories = Histories(bundle, items)
    assert sample_histories(bundle, items, 10) == [histories[place] for place in range(10)]
    assert len(sample_histories(bundle, items, 10**6)) == len(histories)


@pytest.mark.parametrize("table", [None, TABLE.slice(0, 0)], ids=["older", "empty"])
def test_without_histories_there_are_those_of_golden_rows(bundle: Bundle, items: Items, table: Any) -> None:
    lacking = replace(bundle, histories=table)
    assert len(Histories(lacking, items)) == len(Histories(lacking, items).find("film", 3)) == 0
    lower = bundle.golden["lower"]
    windows = [ids_T[:length] for ids_T, length in zip(lower["ids_BT"], lower["lengths_B"], strict=True) if length]
    found = sample_histories(lacking, items, 1000)
    assert [each.item_ids for each in found] == [[items.ids[row] for row in rows_T] for rows_T in windows]
    assert {each.events_before for each in found} == {0}
    assert sample_histories(lacking, items, 2) == found[:2]
    assert sample_histories(lacking, items, 0) == []


def lists(*rows: Any, kind: Any = None) -> Any:
    return pa.array(rows, pa.list_(kind or pa.int32()))


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        ("items", lists([0], [60]), "rows 0 to 60 of 60"),
        ("items", lists([0], [-1]), "rows -1 to 0"),
        ("items", lists([0], []), "has 0 events"),
        ("items", lists([0], list(range(21))), "has 21 events"),
        ("items", lists([0], None), "null"),
        ("items", lists([0], [None]), "null"),
        ("items", lists([0], [1], kind=pa.int64()), "wanted list<"),
        ("items", pa.array(["a", "b"]), "wanted list<"),
        ("events_before", pa.array([0, -1], pa.int64()), "events_before -1"),
        ("events_before", pa.array([0, None], pa.int64()), "null"),
        ("events_before", pa.array([0.0, 1.0]), "wanted int64"),
        ("items", None, "no column items"),
        ("events_before", None, "no column events_before"),
    ],
)
def test_a_broken_table_refuses_the_bundle(
    bundle_dir: Path, tmp_path: Path, column: str, values: Any, why: str
) -> None:
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    columns = {"items": lists([0], [1]), "events_before": pa.array([0, 1], pa.int64()), column: values}
    pq.write_table(pa.table({name: own for name, own in columns.items() if own is not None}), copy / HISTORIES)
    resign(copy)
    refused(copy, HISTORIES, why)


def test_a_file_that_is_no_table_or_is_missing_refuses_it(bundle_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    (copy / HISTORIES).write_bytes(b"no table")
    resign(copy)
    refused(copy, HISTORIES, "cannot be read")
    (copy / HISTORIES).unlink()
    refused(copy, HISTORIES, "missing")
    resign(copy, lambda manifest: manifest["files"].pop(HISTORIES))
    assert load_bundle(copy, "onnx").histories is None


def test_a_table_without_rows_is_none(bundle_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    pq.write_table(TABLE.slice(0, 0), copy / HISTORIES)
    resign(copy)
    table = load_bundle(copy, "onnx").histories
    assert table is not None
    assert table.num_rows == 0
    assert HISTORIES in json.loads((copy / "manifest.json").read_text())["files"]
