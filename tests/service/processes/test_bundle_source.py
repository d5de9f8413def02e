"""The link that names a bundle, and a source that is followed. The rest: tests/e2e/test_serve_swaps.py."""

import asyncio
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steersman_service.errors import BundleError, ReleasesFixed, SourceError
from steersman_service.processes import bundle_source, source_watch
from steersman_service.processes.bundle_source import BundleSource, state_of
from steersman_service.processes.generation import HostedRelease
from steersman_service.processes.releases import Releases
from steersman_service.processes.source_watch import LONGEST_PAUSE_SECONDS, SourceWatch
from steersman_service.telemetry.metrics import Metrics
from tests.service.bundle.made import made


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


@pytest.mark.parametrize("named", ["current", "s3://bucket/prefix"])
def test_what_is_being_pulled_is_not_found(link: Path, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no mark yet that says where its TorchScript comes from."""
    version = made(link.parent / ".pulling-x")
    pulled: list[Any] = []
    monkeypatch.setattr(bundle_source, "storage_of", lambda source: source)

    def pull(*arguments: Any) -> Path:
        pulled.append(arguments)
        return link.parent / "pulled"

    monkeypatch.setattr(bundle_source, "pull", pull)
    source = BundleSource(named if "://" in named else str(link), link.parent)
    # What a remote source has is pulled from there alone.
    remote = "://" in named
    assert source.find(version) == (link.parent / "pulled" if remote else None)
    assert pulled == ([(named, named, version, link.parent, None)] if remote else [])
    shutil.copytree(link.parent / ".pulling-x", link.parent / "c")
    assert source.find(version) == source.find(version[:12]) == link.parent / "c"
    assert source.find(version[:11]) is None
    # Whose first digits are those of two.
    monkeypatch.setattr(bundle_source, "version_in", lambda folder: version[:12] + folder.name)
    assert source.find(version[:12]) is None


async def test_a_link_that_another_change_turned_meanwhile_is_read_again(
    link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = iter([link.parent / "b", link.parent / "a"])
    source = BundleSource(str(link), link.parent)
    monkeypatch.setattr(source, "target", lambda: next(named))
    generation: Any = type("Generation", (), {"stable": HostedRelease(1, link.parent / "a", [], []), "canary": None})
    hosted: Any = pytest.fail
    releases = Releases(generation, hosted, source, Metrics(), drain_seconds=0, on_trial=False)
    assert await SourceWatch(source, releases, Metrics()).look()
    assert not [*named]


def test_what_changes_in_a_folder_is_seen(link: Path) -> None:
    folder = link.parent / "a"
    assert state_of(folder / "none") == ()
    before = state_of(folder)
    (folder / "manifest.json").write_text("{}")
    assert state_of(folder) != before


async def test_a_source_that_is_away_is_no_refusal(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Exception] = [SourceError("s3://b/p", "away"), BundleError("manifest.json", "is none")]
    refused: list[bool] = []

    def storage_of(source: str) -> Any:
        raise said[0]

    monkeypatch.setattr(bundle_source, "storage_of", storage_of)
    metrics: Any = Metrics(collected=False)
    metrics.swapped = lambda ok: refused.append(ok)
    generation: Any = type("Generation", (), {"stable": HostedRelease(1, link.parent / "a", [], [])})
    source, hosted = BundleSource("s3://b/p", link.parent), lambda folder: HostedRelease(2, folder, [], [])
    releases = Releases(generation, hosted, source, metrics, drain_seconds=0, on_trial=False)
    watch = SourceWatch(source, releases, metrics)
    for _ in range(3):
        assert not await watch.look()
    assert refused == []
    said.pop(0)
    # Each attempt may pull a large file that is damaged.
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 12:
            raise asyncio.CancelledError

    # Its own alone: what else runs in this process sleeps, too.
    monkeypatch.setattr(source_watch, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    with pytest.raises(asyncio.CancelledError):
        await watch.run(1.0)
    assert (pauses[:4], pauses[-1]) == ([1.0, 2.0, 4.0, 8.0], LONGEST_PAUSE_SECONDS)
    assert refused == [False]
