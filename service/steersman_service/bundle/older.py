"""What older bundles that lie beside this one say of their features: read at the first question, verified.

Dimensions: N items, S items of both bundles, F features, D hidden.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steersman_service.bundle import files
from steersman_service.bundle.bundle import DECODER, Array, Bundle
from steersman_service.bundle.items import UNKNOWN, Items, Rows
from steersman_service.bundle.replacement import VERSION
from steersman_service.errors import BundleError

FEATURES, ITEMS = "features.parquet", "items.parquet"


class OlderBundle(NamedTuple):
    """An older bundle's features and item vectors, beside this one's items."""

    labels: list[str]
    scales_F: Array
    decoder_FD: Array
    vectors_SD: Array
    """Of the S items that both have."""
    rows_S: Rows
    """Their rows in this bundle."""

    def added(self, feature: int) -> Array:
        """What strength 1 of a feature added to the scores of the items that both bundles have. (S,)"""
        added_S: Array = self.vectors_SD @ (self.scales_F[feature] * self.decoder_FD[feature]).astype(float)
        return added_S


class OlderBundles:
    """Reads the bundles beside this one."""

    def __init__(self, bundle: Bundle, items: Items) -> None:
        self._folder, self._items = bundle.folder.parent, items
        self._known = lru_cache(maxsize=4)(self._read)

    def find(self, version: str) -> OlderBundle | None:
        """None: that bundle is not there, is not whole, or does not say what its features add to scores."""
        # A caller's text becomes a path here, so it has to be a version and nothing else.
        if not VERSION.fullmatch(version):
            return None
        try:
            return self._known(version)
        except (BundleError, OSError, pa.ArrowException, LookupError):
            return None

    def _read(self, version: str) -> OlderBundle:
        folder = self._folder / version
        manifest = files.read_manifest(folder)
        if manifest.version != version or DECODER not in manifest.files or manifest.hook.block < manifest.hook.blocks:
            raise BundleError(DECODER, "does not say what its features add to scores")
        decoder_FD, vectors_ND = (files.map_array(folder, name, manifest) for name in (DECODER, "items.npy"))
        features, items = (
            pq.read_table(pa.BufferReader(files.read_file(folder, name, manifest)), columns=columns)
            for name, columns in ((FEATURES, ["label", "scale"]), (ITEMS, ["item_id"]))
        )
        rows_N = self._items.places(map(str, items["item_id"].to_pylist()))
        both_N = rows_N != UNKNOWN
        if not len(decoder_FD) == features.num_rows or len(vectors_ND) != items.num_rows:
            raise BundleError(FEATURES, "tables and arrays do not fit together")
        scales_F = features["scale"].to_numpy()
        labels = [label or "" for label in features["label"].to_pylist()]
        return OlderBundle(
            labels, np.nan_to_num(scales_F), decoder_FD, vectors_ND[both_N].astype(float), rows_N[both_N]
        )
