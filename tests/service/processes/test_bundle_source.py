"""The link that names a bundle, and a source that is followed. The rest: tests/e2e/test_serve_swaps.py."""

import os
from pathlib import Path
from typing import Any

import pytest

from steersman_service.errors import BundleError, ReleasesFixed, SourceError
from steersman_service.processes import bundle_source
from steersman_service.processes.bundle_source import BundleSource, state_of
from steersman_service.processes.generation import HostedRelease
from steersman_service.processes.releases import Releases
from steersman_service.telemetry.metrics import Metrics


@pytest.fixture
def link(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    link = tmp_path / "current"
    link.symlink_to("a")
    return link


def test_a_link_is_turned_in_its_own_words(link: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = BundleSource(str(link), link.parent)
    source.check_turnable()
    source.turn(link.parent / "b")
    assert (os.readlink(link), source.target()) == ("b", link.parent / "b")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    source.turn(elsewhere)
    assert source.target() == elsewhere
    assert {each.name for each in link.parent.iterdir()} == {"a", "b", "current"}
    link.unlink()
    assert not source.there


@pytest.mark.parametrize("named", ["a", "s3://bucket/prefix"])
def test_what_cannot_be_turned_is_refused(link: Path, named: str) -> None:
    source = BundleSource(named if "://" in named else str(link.parent / named), link.parent)
    with pytest.raises(ReleasesFixed, match="remote source" if "://" in named else "names a folder"):
        source.check_turnable()


@pytest.mark.parametrize("wanted", ["nope", "..", "a/../b", "current/..", "", "a\0", "x" * 300])
def test_only_bundles_beside_the_link_are_found(link: Path, wanted: str) -> None:
    source = BundleSource(str(link), link.parent)
    assert source.find(wanted) is None
    assert source.find("b") == link.parent / "b"


def test_what_changes_in_a_folder_is_seen(link: Path) -> None:
    folder = link.parent / "a"
    assert state_of(folder / "none") == ()
    before = state_of(folder)
    (folder / "manifest.json").write_text("{}")
    assert state_of(folder) != before


async def test_a_source_that_is_away_is_no_refusal(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Exception] = [SourceError("s3://b/p", "away"), BundleError("manifest.json", "is none")]
    refused: list[bool] = []

    def obtain(*arguments: Any) -> Path:
        raise said[0]

    monkeypatch.setattr(bundle_source, "obtain", obtain)
    metrics: Any = Metrics(collected=False)
    metrics.swapped = lambda ok: refused.append(ok)
    generation: Any = type("Generation", (), {"stable": HostedRelease(1, link.parent / "a", [], [])})
    source, hosted = BundleSource("s3://b/p", link.parent), lambda folder: HostedRelease(2, folder, [], [])
    releases = Releases(generation, hosted, source, metrics, drain_seconds=0, on_trial=False)
    for _ in range(3):
        await releases.follow_source()
    assert refused == []
    said.pop(0)
    for _ in range(3):
        await releases.follow_source()
    assert refused == [False]
