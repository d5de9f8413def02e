"""Requests of a batch side by side, as proto/README.md pads them: B batch, T time, E edits, C concepts."""

from collections.abc import Sequence

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.request import Edits


def padded_windows(windows: Sequence[Array]) -> dict[str, Array]:
    lengths = [len(ids_T) for ids_T in windows]
    return {"ids_BT": _pad(windows, 0, np.int64, least=1), "lengths_B": np.array(lengths, np.int64)}


def padded_concepts(concepts: Sequence[Array], strengths: Sequence[Array]) -> dict[str, Array]:
    return {
        "concepts_BC": _pad(concepts, 0, np.int64),
        "concept_strengths_BC": _pad(strengths, 0, np.float32),
    }


def padded_edits(edits: Sequence[Edits]) -> dict[str, Array]:
    return {
        "features_BE": _pad([own.features_E for own in edits], 0, np.int64),
        "gains_BE": _pad([own.gains_E for own in edits], 1, np.float32),
        "strengths_BE": _pad([own.strengths_E for own in edits], 0, np.float32),
    }


def _pad(rows: Sequence[Array], fill: float, dtype: type[np.generic], least: int = 0) -> Array:
    width = max(least, *map(len, rows))
    if len(rows) == 1 and len(rows[0]) == width:
        return np.asarray(rows[0], dtype)[None]
    padded = np.full((len(rows), width), fill, dtype)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: len(row)] = row
    return padded
