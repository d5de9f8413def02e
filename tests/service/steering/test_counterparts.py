"""Which features of two bundles do the same."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steersman_service.api.release import Release
from steersman_service.bundle.bundle import load_bundle
from steersman_service.settings import load_settings
from steersman_service.steering.counterparts import LEAST_LIKENESS
from tests.service.steering.test_carried import signed, swapped_beside


@pytest.fixture
def folder(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / bundle_dir.name))


def release_of(folder: Path) -> Release:
    return Release.of(load_bundle(folder, "onnx"), load_settings())


def test_the_same_features_in_another_order_are_found(folder: Path) -> None:
    release, swapped = release_of(folder), swapped_beside(folder)
    last = len(release.catalogue.features) - 1
    found = release.counterparts.of(swapped.name)
    steerable = [feature.id for feature in release.catalogue.features if feature.steerable]
    assert {last - here for here in steerable} <= set(found)
    for there, (here, likeness) in found.items():
        assert here == last - there
        assert LEAST_LIKENESS <= likeness <= 1
    assert all(likeness > 0.99 for _, likeness in found.values())


def test_of_two_features_that_do_the_same_each_is_found_by_its_label(folder: Path) -> None:
    features = pq.read_table(folder / "features.parquet")
    labels, rows = features["label"].to_pylist(), features["top_items"].to_pylist()
    first, twin = [row for row, steerable in enumerate(features["steerable"].to_pylist()) if steerable][:2]
    assert len({labels[first], labels[twin]} - {"", None}) == 2
    decoder = np.load(folder / "decoder.npy")
    decoder[twin], rows[twin] = decoder[first], rows[first]
    np.save(folder / "decoder.npy", decoder)
    column = features.column_names.index("top_items")
    pq.write_table(features.set_column(column, "top_items", pa.array(rows)), folder / "features.parquet")
    folder = signed(folder)
    release, swapped, last = release_of(folder), swapped_beside(folder), features.num_rows - 1
    found = release.counterparts.of(swapped.name)
    assert [found[last - feature][0] for feature in (first, twin)] == [first, twin]


def test_a_bundle_is_found_once_it_is_there(folder: Path, tmp_path: Path) -> None:
    release = release_of(folder)
    swapped = swapped_beside(folder)
    away = swapped.rename(tmp_path / "away")
    assert release.counterparts.of(swapped.name) == {}
    assert release.counterparts.of("../away") == {}
    away.rename(swapped)
    assert release.counterparts.of(swapped.name)
    # Then it is remembered.
    shutil.rmtree(swapped)
    assert release.counterparts.of(swapped.name)


def test_no_two_features_have_one_counterpart(other_seed: Path, folder: Path) -> None:
    """Of a bundle that was trained from another seed."""
    other = Path(shutil.copytree(other_seed, folder.parent / other_seed.name))
    found = release_of(folder).counterparts.of(other.name)
    heres = [here for here, _ in found.values()]
    assert len(set(heres)) == len(heres)
    tops = [pq.read_table(each / "features.parquet")["top_items"].to_pylist() for each in (other, folder)]
    for there, (here, likeness) in found.items():
        assert likeness >= LEAST_LIKENESS
        assert set(tops[0][there] or ()) & set(tops[1][here] or ())
