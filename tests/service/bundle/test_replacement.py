"""A feature of an older bundle: refused, with what it is likely called now."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.files import VERSION, read_manifest
from steersman_service.bundle.items import Items
from steersman_service.bundle.replacement import Replacements
from tests.service.bundle.test_bundle import resign
from tests.serving import Failure, Running, failure, serving, settings_for


@pytest.fixture(scope="module")
def folder(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles side by side: the older one has the same features in another order, and fewer items."""
    parent = tmp_path_factory.mktemp("bundles")
    folder = Path(shutil.copytree(bundle_dir, parent / bundle_dir.name))
    older = Path(shutil.copytree(bundle_dir, parent / "older"))
    items = pq.read_table(folder / "items.parquet")
    features = pq.read_table(folder / "features.parquet", columns=["top_items"])
    kept = items.num_rows - 5
    top_items = [[row - 5 for row in rows if row >= 5] for rows in reversed(features["top_items"].to_pylist())]
    pq.write_table(items.slice(5, kept), older / "items.parquet")
    pq.write_table(pa.table({"top_items": [*top_items, []]}), older / "features.parquet")
    resign(older)
    older.rename(parent / read_manifest(older).version)
    return folder


@pytest.fixture(scope="module")
def older(folder: Path) -> str:
    """The version of the older one."""
    (other,) = (
        beside.name for beside in folder.parent.iterdir() if VERSION.fullmatch(beside.name) and beside != folder
    )
    return other


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(settings_for(folder.parent, folder)) as running:
        yield running


def test_a_version_is_no_path(server: Running, folder: Path, older: str) -> None:
    feature = distinct(load_bundle(folder, "onnx"))[0]
    failed = steer(server, f"../{folder.parent.name}/{older}", turned(folder, feature))
    assert "replacement_id" not in failed.metadata


def steer(server: Running, version: str, feature: int) -> Failure:
    control = Control(feature=FeatureRef(id=feature, bundle_version=version), operation=OPERATION_ADD)
    return failure(server.recommendation.Recommend, RecommendRequest(controls=[control]))


def turned(folder: Path, feature: int) -> int:
    """Its place in the older bundle."""
    return int(load_bundle(folder, "onnx").features.num_rows) - 1 - feature


def distinct(bundle: Bundle) -> list[int]:
    """Features that are alive, and known by their top items alone."""
    tops = [frozenset(rows or ()) for rows in bundle.features["top_items"].to_pylist()]
    alive = bundle.features["scale"].to_numpy() > 0
    return [f for f, top in enumerate(tops) if alive[f] and len(top) >= 8 and sum(len(top & t) > 6 for t in tops) == 1]


def test_the_likely_replacement_is_named(server: Running, folder: Path, older: str) -> None:
    bundle = load_bundle(folder, "onnx")
    feature = distinct(bundle)[0]
    failed = steer(server, older, turned(folder, feature))
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FEATURE_OF_ANOTHER_BUNDLE")
    assert failed.metadata["field"] == "controls[0].feature.bundle_version"
    assert failed.metadata["replacement_id"] == str(feature)
    assert failed.metadata["replacement_label"] == bundle.features["label"][feature].as_py()[:100]
    assert failed.metadata["bundle_version"] == bundle.version
    assert f"feature {feature}" in failed.message


@pytest.mark.parametrize("version", ["b" * 64, "x", "a" * 64 + "\n", "x" * 128])
def test_a_bundle_that_is_not_there(server: Running, version: str) -> None:
    failed = steer(server, version, 1)
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "replacement_id" not in failed.metadata
    assert "ListFeatures" in failed.message


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_feature_that_was_never_active_or_never_was(server: Running, folder: Path, older: str, beyond: int) -> None:
    assert "replacement_id" not in steer(server, older, turned(folder, -1) + beyond).metadata


def test_a_spoilt_older_bundle_is_no_error(folder: Path) -> None:
    spoilt = folder.parent / ("c" * 64)
    spoilt.mkdir()
    (spoilt / "features.parquet").write_bytes(b"no table")
    bundle = load_bundle(folder, "onnx")
    assert Replacements(bundle, Catalogue(bundle, Items(bundle.items))).find("c" * 64, 0) is None


def test_an_older_bundle_is_asked_only_if_it_is_what_its_manifest_says(
    folder: Path, older: str, tmp_path: Path
) -> None:
    parent = tmp_path / "bundles"
    here = Path(shutil.copytree(folder, parent / folder.name))
    there = Path(shutil.copytree(folder.parent / older, parent / older))
    bundle = load_bundle(here, "onnx")
    catalogue = Catalogue(bundle, Items(bundle.items))
    feature = distinct(bundle)[0]
    asked = turned(here, feature)

    def found() -> int | None:
        return Replacements(bundle, catalogue).find(older, asked)

    assert found() == feature
    table = there / "features.parquet"
    plain = table.read_bytes()
    pq.write_table(pq.read_table(table), table, compression="none")  # the same rows in other bytes
    assert found() is None
    table.unlink()
    (tmp_path / "elsewhere").write_bytes(plain)
    table.symlink_to(tmp_path / "elsewhere")
    assert found() is None
    table.unlink()
    table.write_bytes(plain)
    assert found() == feature
    there.rename(parent / ("d" * 64))
    assert Replacements(bundle, catalogue).find("d" * 64, asked) is None
