"""Compares what the graphs add to a state for each feature with the bundle's files, from which lists are explained and aims are solved.

Dimensions: B rows, E features of a row, D hidden.
"""

from collections.abc import Mapping

import numpy as np

from steersman_service.bundle.bundle import ADD, DECODER, SUFFIXES, Array
from steersman_service.bundle.files import AGAIN
from steersman_service.engine.golden import resized, tolerance_of
from steersman_service.engine.graphs import Graphs
from steersman_service.errors import BundleError

FEATURES = "features.parquet"
FEATURES_A_ROW = 16
# A state, and an activation of every feature, for each: a few megabytes.
ROWS_A_BATCH = 64


def check_directions(graphs: Graphs) -> None:
    """Has `edit` and `add` edit every feature that was ever active, with other strengths within a row.

    Raises BundleError, with the difference and the features, where `edit` adds something else than decoder.npy and the scales of
    features.parquet say, or `add` something else than `edit`. A bundle may lack decoder.npy, or `add`.
    """
    count = graphs.bundle.manifest.shape.features
    scales_F = _scales(graphs)
    step = FEATURES_A_ROW * ROWS_A_BATCH
    for start in range(0, count, step):
        _check(graphs, np.arange(start, min(count, start + step)), scales_F)


def _scales(graphs: Graphs) -> Array:
    try:
        return graphs.bundle.features["scale"].to_numpy().astype(np.float64)
    except (LookupError, ValueError) as error:
        raise BundleError(FEATURES, f"has no column 'scale' of numbers; {AGAIN}") from error


def _check(graphs: Graphs, features: Array, scales_F: Array) -> None:
    rows = -(-len(features) // FEATURES_A_ROW)
    # Filled up with the last one, at strength 0.
    features_BE = np.pad(features, (0, rows * FEATURES_A_ROW - len(features)), mode="edge").reshape(rows, -1)
    scales_BE = scales_F[features_BE]
    used_BE = (np.arange(features_BE.size).reshape(rows, -1) < len(features)) & (scales_BE > 0)
    # Sizes differ, so that two features that changed places are noticed.
    sizes_BE = used_BE * np.linspace(1, 2, FEATURES_A_ROW)
    strengths_BE = np.divide(sizes_BE, scales_BE, out=np.zeros_like(sizes_BE), where=used_BE).astype(np.float32)
    inputs = {
        **resized(graphs.bundle.golden["edit"], rows),
        "features_BE": features_BE.astype(np.int64),
        "gains_BE": np.ones_like(strengths_BE),
        "strengths_BE": strengths_BE,
    }
    h_BD = inputs["h_BD"]
    inputs["h_BD"] = np.resize(h_BD[:1], h_BD.shape)
    edited_BD = _run(graphs, "edit", inputs)["edited_BD"]
    suffix = SUFFIXES[graphs.backend.name]
    if graphs.bundle.decoder_FD is not None:
        added_BD = np.einsum("be,bed->bd", sizes_BE, graphs.bundle.decoder_FD[features_BE])
        why = f"with the scales of features.parquet is not what edit{suffix} adds"
        _compare(graphs, DECODER, why, features_BE, edited_BD, inputs["h_BD"] + added_BD)
    if ADD in graphs.bundle.graphs:
        added_BD = _run(graphs, ADD, inputs)["added_BD"]
        _compare(graphs, f"{ADD}{suffix}", f"differs from edit{suffix}", features_BE, added_BD, edited_BD)


def _run(graphs: Graphs, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
    try:
        return graphs.replay(name, inputs)
    except Exception as error:
        raise BundleError(f"{name}{SUFFIXES[graphs.backend.name]}", f"does not edit its features: {error}") from error


def _compare(graphs: Graphs, file: str, why: str, features_BE: Array, got_BD: Array, wanted_BD: Array) -> None:
    tolerance = tolerance_of(graphs)
    same_BD = np.isclose(got_BD, wanted_BD, rtol=tolerance.relative, atol=tolerance.absolute)
    if same_BD.all():
        return
    wrong_W = np.flatnonzero(~same_BD.all(1))
    worst = np.abs(got_BD - wanted_BD)[~same_BD].max()
    first_E = features_BE[wrong_W[0]]
    more = f", and in {len(wrong_W) - 1} more such groups" if len(wrong_W) > 1 else ""
    raise BundleError(file, f"{why}: by up to {worst:.3g}, among features {first_E[0]} to {first_E[-1]}{more}; {AGAIN}")
