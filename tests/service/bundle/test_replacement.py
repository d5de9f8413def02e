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
from steersman_service.bundle.items import Items
from steersman_service.bundle.replacement import Replacements
from tests.serving import Failure, Running, failure, serving, settings_for

OLDER = "a" * 64


@pytest.fixture(scope="module")
def folder(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles side by side: the older one has the same features in another order, and fewer items."""
    parent = tmp_path_factory.mktemp("bundles")
    folder = Path(shutil.copytree(bundle_dir, parent / bundle_dir.name))
    (parent / OLDER).mkdir()
    items = pq.read_table(folder / "items.parquet")
    features = pq.read_table(folder / "features.parquet", columns=["top_items"])
    kept = items.num_rows - 5
    older = [[row - 5 for row in rows if row >= 5] for rows in reversed(features["top_items"].to_pylist())]
    pq.write_table(items.slice(5, kept), parent / OLDER / "items.parquet")
    pq.write_table(pa.table({"top_items": [*older, []]}), parent / OLDER / "features.parquet")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(settings_for(folder.parent, folder)) as running:
        yield running


def test_a_version_is_no_path(server: Running, folder: Path) -> None:
    feature = distinct(load_bundle(folder, "onnx"))[0]
    failed = steer(server, f"../{folder.parent.name}/{OLDER}", turned(folder, feature))
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


def test_the_likely_replacement_is_named(server: Running, folder: Path) -> None:
    bundle = load_bundle(folder, "onnx")
    feature = distinct(bundle)[0]
    failed = steer(server, OLDER, turned(folder, feature))
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FEATURE_OF_ANOTHER_BUNDLE")
    assert failed.metadata["field"] == "controls[0].feature.bundle_version"
    assert failed.metadata["replacement_id"] == str(feature)
    assert failed.metadata["replacement_label"] == bundle.features["label"][feature].as_py()[:100]
    assert failed.metadata["bundle_version"] == bundle.version
    assert f"feature {feature}" in failed.message


@pytest.mark.parametrize("version", ["b" * 64, "x", OLDER + "\n", "x" * 100_000])
def test_a_bundle_that_is_not_there(server: Running, version: str) -> None:
    failed = steer(server, version, 1)
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "replacement_id" not in failed.metadata
    assert "ListFeatures" in failed.message


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_feature_that_was_never_active_or_never_was(server: Running, folder: Path, beyond: int) -> None:
    assert "replacement_id" not in steer(server, OLDER, turned(folder, -1) + beyond).metadata


def test_a_spoilt_older_bundle_is_no_error(folder: Path) -> None:
    spoilt = folder.parent / ("c" * 64)
    spoilt.mkdir()
    (spoilt / "features.parquet").write_bytes(b"no table")
    bundle = load_bundle(folder, "onnx")
    assert Replacements(bundle, Catalogue(bundle, Items(bundle.items))).find("c" * 64, 0) is None
