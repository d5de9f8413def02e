"""Replays a bundle's golden rows: a backend that computes something else must not serve it."""

from collections.abc import Mapping

import numpy as np

from steersman.v1.bundle_pb2 import Graph, Tolerance
from steersman_service.bundle.bundle import SUFFIXES, Array
from steersman_service.engine.graphs import Graphs, per_request
from steersman_service.engine.index.exact import Index, SearchResult, Terms
from steersman_service.errors import BundleError


def replay_golden(graphs: Graphs, batch: int | None = None) -> None:
    """Runs each graph on all its sets of golden inputs; with `batch`, on that many rows of its first set.

    Raises BundleError naming the file, the tensor and the difference.
    """
    for name in graphs.bundle.graphs:
        parts = sorted(rows for rows in graphs.bundle.golden if rows.startswith(f"{name}/"))
        for rows in (name, *(parts if batch is None else ())):
            _replay(graphs, name, rows, batch)


def _replay(graphs: Graphs, name: str, rows: str, batch: int | None) -> None:
    graph = graphs.bundle.graphs[name]
    golden = resized(graphs.bundle.golden.get(rows, {}), batch)
    inputs = [tensor for tensor in graphs.inputs[name] if tensor not in graphs.tables]
    for tensor in (*inputs, *(output.name for output in graph.outputs)):
        if tensor not in golden:
            raise BundleError("golden.npz", f"has no {rows}.{tensor}")
    file = f"{name}{SUFFIXES[graphs.backend.name]}"
    try:
        outputs = graphs.replay(name, {tensor: golden[tensor] for tensor in inputs})
    except Exception as error:
        raise BundleError(file, f"does not run on its golden rows: {error}") from error
    _compare(file, graph, golden, outputs, tolerance_of(graphs))


def replay_search(graphs: Graphs, index: Index, what: str, batch: int | None = None) -> None:
    """Has an exact index, which `what` names, find the golden rows of the graph `search`, within the same tolerance.

    Raises BundleError with the difference.
    """
    golden = resized(graphs.bundle.golden["search"], batch)
    terms = [
        Terms(eligible_N, tilts_N=tilts_N)
        for eligible_N, tilts_N in zip(golden["eligible_BN"], golden["tilts_BN"], strict=True)
    ]
    found = index.search(graphs.backend.put(golden["query_BD"]), terms, [int(golden["k"])] * len(terms))
    outputs = dict(zip(SearchResult._fields, graphs.backend.fetch(found), strict=True))
    _compare(f"search, {what}", graphs.bundle.graphs["search"], golden, outputs, tolerance_of(graphs))


def resized(golden: Mapping[str, Array], batch: int | None) -> Mapping[str, Array]:
    """With `batch` rows in what has one for each request: the first ones, or all of them repeated. None: as they are."""
    if batch is None:
        return golden
    return {
        name: np.resize(array, (batch, *array.shape[1:])) if per_request(name) else array
        for name, array in golden.items()
    }


def tolerance_of(graphs: Graphs) -> Tolerance:
    for tolerance in graphs.bundle.manifest.tolerances:
        if (tolerance.backend, tolerance.dtype) == (graphs.backend.name, "float32"):
            return tolerance
    raise BundleError("manifest.json", f"gives no tolerance for backend {graphs.backend.name}, float32")


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
