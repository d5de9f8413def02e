"""Replays a bundle's golden rows: a backend that computes something else must not serve it."""

from collections.abc import Mapping

import numpy as np

from steersman.v1.bundle_pb2 import Graph, Tolerance
from steersman_service.bundle.bundle import SUFFIXES, Array
from steersman_service.engine.engine import Engine
from steersman_service.engine.index.exact import Found, Terms
from steersman_service.errors import BundleError

FROM_FILES = ("items_ND", "biases_N")


def replay_golden(engine: Engine, batch: int | None = None) -> None:
    """Runs each graph on all its sets of golden inputs, or on its first one, on as many rows of it as `batch` says.

    Raises BundleError naming the file, the tensor and the difference.
    """
    for name in engine.bundle.graphs:
        parts = sorted(rows for rows in engine.bundle.golden if rows.startswith(f"{name}/"))
        for rows in (name, *(parts if batch is None else ())):
            _replay(engine, name, rows, batch)


def _replay(engine: Engine, name: str, rows: str, batch: int | None) -> None:
    graph = engine.bundle.graphs[name]
    golden = _rows(engine.bundle.golden.get(rows, {}), batch)
    inputs = [tensor.name for tensor in graph.inputs if tensor.name not in FROM_FILES]
    for tensor in (*inputs, *(output.name for output in graph.outputs)):
        if tensor not in golden:
            raise BundleError("golden.npz", f"has no {rows}.{tensor}")
    file = f"{name}{SUFFIXES[engine.backend.name]}"
    try:
        outputs = engine.replay(name, {tensor: golden[tensor] for tensor in inputs})
    except Exception as error:
        raise BundleError(file, f"does not run on its golden rows: {error}") from error
    _compare(file, graph, golden, outputs, _tolerance(engine))


def replay_search(engine: Engine, what: str, batch: int | None = None) -> None:
    """Has the engine's exact index, which `what` names, find what the graph `search` found on its golden rows, by the same tolerance.

    Raises BundleError with the difference.
    """
    golden = _rows(engine.bundle.golden["search"], batch)
    terms = [
        Terms(eligible_N, tilts_N=tilts_N)
        for eligible_N, tilts_N in zip(golden["eligible_BN"], golden["tilts_BN"], strict=True)
    ]
    found = engine.index.search(engine.backend.put(golden["query_BD"]), terms, [int(golden["k"])] * len(terms))
    outputs = dict(zip(Found._fields, engine.backend.fetch(found), strict=True))
    _compare(f"search, {what}", engine.bundle.graphs["search"], golden, outputs, _tolerance(engine))


def _rows(golden: Mapping[str, Array], batch: int | None) -> Mapping[str, Array]:
    """So many rows of what has one for each request: the first ones, or all of them again and again. None: as they are."""
    if batch is None:
        return golden
    return {
        name: np.resize(array, (batch, *array.shape[1:])) if name.rpartition("_")[2].startswith("B") else array
        for name, array in golden.items()
    }


def _tolerance(engine: Engine) -> Tolerance:
    for tolerance in engine.bundle.manifest.tolerances:
        if (tolerance.backend, tolerance.dtype) == (engine.backend.name, "float32"):
            return tolerance
    raise BundleError("manifest.json", f"gives no tolerance for backend {engine.backend.name}, float32")


def _compare(
    file: str, graph: Graph, golden: Mapping[str, Array], outputs: Mapping[str, Array], tolerance: Tolerance
) -> None:
    for tensor in (output.name for output in graph.outputs):
        wanted, got = golden[tensor], outputs[tensor]
        if got.shape != wanted.shape:
            raise BundleError(file, f"{tensor} has shape {got.shape}, the golden rows have {wanted.shape}")
        if np.issubdtype(wanted.dtype, np.floating):
            same = np.isclose(got, wanted, rtol=tolerance.relative, atol=tolerance.absolute)
        else:
            same = got == wanted
        if not same.all():
            worst = np.abs(got[~same].astype(np.float64) - wanted[~same].astype(np.float64)).max()
            raise BundleError(
                file,
                f"{tensor} differs from the golden rows in {(~same).sum()} of {same.size} values, by up to {worst:.3g}"
                f" (allowed: {tolerance.absolute:g} + {tolerance.relative:g} of the value; integers exactly)",
            )
