"""The bundles beside the served one, over gRPC."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from steersman.v1.model_service_pb2 import BundleSummary, ListBundlesRequest
from steersman_service.api import bundles as module
from steersman_service.api.bundles import BundleList
from tests.service.api.test_labels import steerable_of
from tests.service.bundle.test_bundle import resign
from tests.service.steering.test_carried import swapped_beside
from tests.serving import Running, serving, settings_for


@pytest.fixture(scope="module")
def folder(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("bundles")
    return Path(shutil.copytree(bundle_dir, parent / bundle_dir.name))


@pytest.fixture(scope="module")
def swapped(folder: Path) -> Path:
    """The same features in another order, without some items."""
    return swapped_beside(folder)


@pytest.fixture
def server(folder: Path, swapped: Path, tmp_path: Path) -> Iterator[Running]:
    (folder.parent / ("b" * 64)).mkdir(exist_ok=True)
    (folder.parent / ("c" * 64)).mkdir(exist_ok=True)
    (folder.parent / ("c" * 64) / "manifest.json").write_text("{")
    (folder.parent / "notes").mkdir(exist_ok=True)
    with serving(settings_for(tmp_path, folder)) as running:
        yield running


def listed(server: Running) -> Sequence[BundleSummary]:
    return server.model.ListBundles(ListBundlesRequest()).bundles


def written(folder: Path, created: str) -> Path:
    """A copy with another date, under the name of its version."""
    other = Path(shutil.copytree(folder, folder.parent / "other"))

    def change(document: Any) -> None:
        document["created"] = created

    resign(other, change)
    return other.rename(folder.parent / json.loads((other / "manifest.json").read_text())["version"])


def test_bundles_are_listed_with_what_is_carried_on(server: Running, folder: Path, swapped: Path) -> None:
    found = {one.version: one for one in listed(server)}
    assert set(found) == {folder.name, swapped.name}
    served, other = found[folder.name], found[swapped.name]
    steerable = len(steerable_of(folder))
    assert (served.served, other.served) == (True, False)
    assert (served.steerable_features, served.carried_features, served.median_confidence) == (steerable, steerable, 1)
    assert other.steerable_features == steerable
    assert steerable / 2 < other.carried_features <= steerable
    assert 0.9 < other.median_confidence <= 1
    assert (other.format, other.created, other.data) == (served.format, served.created, served.data)
    assert dict(served.figures) == dict(other.figures) != {}


def test_the_newest_come_first_and_the_served_one_is_always_there(
    server: Running, folder: Path, swapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[int]()
    original = BundleList._summaries

    def counted(bundles: BundleList, listing: Any) -> Any:
        calls.append(1)
        return original(bundles, listing)

    monkeypatch.setattr(BundleList, "_summaries", counted)
    assert len(listed(server)) == len(listed(server)) == 2
    assert len(calls) == 1
    newest = written(folder, "2999-01-01T00:00:00+00:00")
    try:
        assert listed(server)[0].version == newest.name
        assert len(calls) == 2
        odd = written(folder, "yesterday")
        assert listed(server)[-1].version == odd.name
        monkeypatch.setattr(module, "MOST_BUNDLES", 2)
        shutil.rmtree(odd)
        assert {one.version for one in listed(server)} == {newest.name, folder.name}
        # What is no longer what its manifest says is left out.
        (newest / "features.parquet").write_bytes(b"else")
        (newest / "manifest.json").touch()
        monkeypatch.setattr(module, "MOST_BUNDLES", 20)
        assert {one.version for one in listed(server)} == {folder.name, swapped.name}
    finally:
        shutil.rmtree(newest)


def test_a_bundle_alone_is_listed_alone(bundle_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_dir, tmp_path / "bundles" / "mine"))
    with serving(settings_for(tmp_path, folder)) as server:
        (one,) = listed(server)
    assert (one.version, one.served) == (bundle_dir.name, True)
