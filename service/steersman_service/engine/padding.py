"""Requests of a batch side by side, as proto/README.md pads them: B batch, T time, E edits, C concepts."""

from collections.abc import Iterable, Sequence

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.request import Edits


def padded_windows(windows: Sequence[Array]) -> dict[str, Array]:
    lengths_B = np.array([len(ids_T) for ids_T in windows], np.int64)
    return {"ids_BT": _pad(windows, 0, np.int64, least=1), "lengths_B": lengths_B}


def padded_concepts(concepts: Iterable[Array], strengths: Iterable[Array]) -> dict[str, Array]:
    return {"concepts_BC": _pad(concepts, 0, np.int64), "concept_strengths_BC": _pad(strengths, 0, np.float32)}


def padded_edits(edits: Iterable[Edits]) -> dict[str, Array]:
    features, gains, strengths = zip(*edits, strict=True)
    return {
        "features_BE": _pad(features, 0, np.int64),
        "gains_BE": _pad(gains, 1, np.float32),
        "strengths_BE": _pad(strengths, 0, np.float32),
    }


def _pad(arrays: Iterable[Array], fill: float, dtype: type[np.generic], least: int = 0) -> Array:
    rows = list(arrays)
    width = max(least, *map(len, rows))
    if len(rows) == 1 and len(rows[0]) == width:
        return np.asarray(rows[0], dtype)[None]
    padded = np.full((len(rows), width), fill, dtype)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: len(row)] = row
    return padded
