"""What older bundles that lie beside this one say of their features: read at the first question, verified.

Dimensions: N items, S items of both bundles, F features, D hidden.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steersman_service.bundle import files
from steersman_service.bundle.bundle import DECODER, Array, Bundle
from steersman_service.bundle.items import UNKNOWN, Items, Rows
from steersman_service.errors import BundleError
from steersman_service.remembering import remembered

FEATURES, ITEMS = "features.parquet", "items.parquet"
# Columns of features, and what stands for nothing. The first bundles with a decoder have no units.
COLUMNS = {"scale": 0.0, "unit_up": 1.0, "unit_down": 1.0}


class OlderBundle(NamedTuple):
    """An older bundle's features and item vectors, beside this one's items."""

    labels: list[str]
    scales_F: Array
    ups_F: Array
    downs_F: Array
    """What a control's strength of 1, or of -1, was, in natural maxima."""
    decoder_FD: Array
    vectors_SD: Array
    """Of the S items that both have, of those that count."""
    rows_S: Rows
    """Their rows in this bundle."""

    def unit(self, feature: int, strength: float) -> float:
        """Of a control of this strength."""
        return float((self.downs_F if strength < 0 else self.ups_F)[feature])

    def added(self, feature: int) -> Array:
        """What the natural maximum of a feature added to the scores of the items that both bundles have. (S,)"""
        added_S: Array = self.vectors_SD.astype(float) @ (self.scales_F[feature] * self.decoder_FD[feature])
        return added_S


class OlderBundles:
    """Reads the bundles beside this one. `counted_M` are the rows of this one's items that count."""

    def __init__(self, bundle: Bundle, items: Items, counted_M: Rows) -> None:
        self._bundle, self._folder, self._items = bundle, bundle.folder.parent, items
        self._counts_N = np.zeros(len(items), np.bool_)
        self._counts_N[counted_M] = True
        self._known = remembered(4, self._read)

    def find(self, version: str) -> OlderBundle | None:
        """None: that bundle is not there, is not whole, or does not say what its features add to scores."""
        return self._found(version, self._known)

    def read(self, version: str) -> OlderBundle | None:
        """The same, without remembering it."""
        return self._found(version, self._read)

    def _found(self, version: str, read: Callable[[str], OlderBundle]) -> OlderBundle | None:
        # A caller's text becomes a path here, so it has to be a version and nothing else.
        if not files.VERSION.fullmatch(version):
            return None
        try:
            return read(version)
        except (BundleError, OSError, pa.ArrowException, LookupError):
            return None

    def _read(self, version: str) -> OlderBundle:
        folder = self._folder / version
        manifest = self._bundle.manifest_of(folder)
        if manifest.version != version or DECODER not in manifest.files or manifest.hook.block < manifest.hook.blocks:
            raise BundleError(DECODER, "does not say what its features add to scores")
        decoder_FD, vectors_ND = (files.map_array(folder, name, manifest) for name in (DECODER, "items.npy"))
        features, items = (
            pq.read_table(pa.BufferReader(files.read_file(folder, name, manifest))) for name in (FEATURES, ITEMS)
        )
        rows_N = self._items.places(map(str, items["item_id"].to_pylist()))
        both_N = (rows_N != UNKNOWN) & self._counts_N[rows_N]
        if not len(decoder_FD) == features.num_rows or len(vectors_ND) != items.num_rows:
            raise BundleError(FEATURES, "tables and arrays do not fit together")
        scales_F, ups_F, downs_F = (_numbers(features, name, none) for name, none in COLUMNS.items())
        labels = [label or "" for label in features["label"].to_pylist()]
        return OlderBundle(labels, scales_F, ups_F, downs_F, decoder_FD, vectors_ND[both_N], rows_N[both_N])


def _numbers(table: pa.Table, name: str, none: float) -> Array:
    values = table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
    return np.array([none if value is None else value for value in values])
