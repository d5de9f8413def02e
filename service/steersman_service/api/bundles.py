"""The bundles that lie beside the one that is served."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from steersman.v1.bundle_pb2 import Manifest
from steersman.v1.model_service_pb2 import BundleSummary
from steersman_service.api.release import Release
from steersman_service.bundle import files
from steersman_service.bundle.older import FEATURES
from steersman_service.errors import BundleError

MOST_BUNDLES = 20
UNREADABLE = (BundleError, OSError, pa.ArrowException, LookupError, ValueError)

Listing = Sequence[tuple[str, int]]
"""Names of folders, and when the manifest of each was written, in ns."""
log = structlog.get_logger()


class BundleList:
    """Read anew when the folder's listing has changed. One thread reads, so that no call waits for the disk but those that ask for it."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._folder = release.bundle.folder.parent
        self._thread = ThreadPoolExecutor(1, "bundle list")
        self._known: tuple[Listing, Sequence[BundleSummary]] | None = None

    async def read(self) -> Sequence[BundleSummary]:
        """Newest first, MOST_BUNDLES at most, the served one among them."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read)

    def _read(self) -> Sequence[BundleSummary]:
        listing = self._listing()
        if self._known is None or self._known[0] != listing:
            self._known = listing, self._summaries(listing)
        return self._known[1]

    def _listing(self) -> Listing:
        try:
            folders = [
                path for path in self._folder.iterdir() if files.VERSION.fullmatch(path.name) and not path.is_symlink()
            ]
        except OSError:
            return ()
        return sorted((path.name, _written(path)) for path in folders if path.name != self._release.version)

    def _summaries(self, listing: Listing) -> Sequence[BundleSummary]:
        others, skipped = list[Manifest](), 0
        for name, _ in listing:
            try:
                others.append(self._manifest(self._folder / name))
            except UNREADABLE:
                skipped += 1
        served = self._served()
        others.sort(key=lambda manifest: _time(manifest.created), reverse=True)
        summaries = [served]
        for manifest in others:
            if len(summaries) == MOST_BUNDLES:
                break
            try:
                summaries.append(self._other(manifest))
            except UNREADABLE:
                skipped += 1
        if skipped:
            log.warning("bundles beside the served one cannot be read", bundles=skipped)
        return sorted(summaries, key=lambda summary: _time(summary.created), reverse=True)

    def _manifest(self, folder: Path) -> Manifest:
        manifest = self._release.bundle.manifest_of(folder)
        if manifest.version != folder.name:
            raise BundleError(files.MANIFEST, "is of another version than its folder's name")
        return manifest

    def _served(self) -> BundleSummary:
        steerable = sum(feature.steerable for feature in self._release.catalogue.features)
        summary = _summary(self._release.bundle.manifest)
        summary.served, summary.median_confidence = True, 1.0 if steerable else 0.0
        summary.steerable_features = summary.carried_features = steerable
        return summary

    def _other(self, manifest: Manifest) -> BundleSummary:
        data = files.read_file(self._folder / manifest.version, FEATURES, manifest)
        column = pq.read_table(pa.BufferReader(data), columns=["steerable"])["steerable"]
        steerable = np.flatnonzero([bool(value) for value in column.to_pylist()]).tolist()
        counterparts = self._release.counterparts.of(manifest.version)
        found = [counterparts[feature][1] for feature in steerable if feature in counterparts]
        summary = _summary(manifest)
        summary.steerable_features, summary.carried_features = len(steerable), len(found)
        summary.median_confidence = float(np.median(found)) if found else 0.0
        return summary


def _written(folder: Path) -> int:
    try:
        return (folder / files.MANIFEST).stat().st_mtime_ns
    except OSError:
        return 0


def _summary(manifest: Manifest) -> BundleSummary:
    return BundleSummary(
        version=manifest.version,
        format=f"{manifest.format_major}.{manifest.format_minor}",
        created=manifest.created,
        data=manifest.provenance.data,
        figures=manifest.figures,
    )


def _time(created: str) -> datetime:
    """One that cannot be read comes last."""
    try:
        time = datetime.fromisoformat(created)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
