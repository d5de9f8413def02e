"""Finds the likely successor of an older bundle's feature, if that bundle still lies beside this one."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steersman_service.bundle import files
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.errors import BundleError
from steersman_service.remembering import remembered

# What is beside a bundle may be anything.
UNREADABLE = (BundleError, OSError, pa.ArrowException, LookupError)
TopItems = list[set[str]]
"""External ids of the top items of each feature."""


class Replacements:
    """The likely replacement of a feature is the one whose top items overlap most with its own (Jaccard index)."""

    def __init__(self, bundle: Bundle, catalogue: Catalogue) -> None:
        self._bundle, self._folder = bundle, bundle.folder.parent
        self._top_items = [set(feature.top_item_ids) if feature.scale else set() for feature in catalogue.features]
        self._older = remembered(8, self._read)

    def find(self, version: str, feature_id: int) -> int | None:
        """The likely replacement of a feature of bundle `version`. None: that bundle is not there, or nothing is like it."""
        # A caller's text becomes a path here, so it has to be a version and nothing else.
        if not files.VERSION.fullmatch(version):
            return None
        try:
            old = self._older(version)[feature_id]
        except UNREADABLE:
            return None
        likeness = [_jaccard(old, new) for new in self._top_items]
        best = max(range(len(likeness)), key=likeness.__getitem__)
        return best if likeness[best] > 0 else None

    def alike(self, version: str, feature_id: int, here: int) -> bool:
        """Whether a feature of bundle `version` and one of this bundle share a top item."""
        try:
            return bool(self._older(version)[feature_id] & self._top_items[here])
        except UNREADABLE:
            return False

    def _read(self, version: str) -> TopItems:
        folder = self._folder / version
        manifest = self._bundle.manifest_of(folder)
        if manifest.version != version:
            raise BundleError(files.MANIFEST, f"is of version {manifest.version}, in the folder of {version}")

        def column(file: str, name: str) -> list[Any]:
            content = pa.BufferReader(files.read_file(folder, file, manifest))
            return pq.read_table(content, columns=[name])[name].to_pylist()

        ids = column("items.parquet", "item_id")
        return [{ids[row] for row in rows or ()} for rows in column("features.parquet", "top_items")]


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0
