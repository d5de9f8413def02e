"""Queries of real histories: plain, steered by features, and steered by a concept.

Dimensions: Q queries, D hidden.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from steersman_loadtest.histories import read_histories
from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.bundle.items import Items
from steersman_service.engine.backends.onnx import OnnxBackend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.index.exact import GraphIndex
from steersman_service.engine.request import Edits, EngineRequest

FEATURES = 8


class NotesQueries:
    """An index that notes what is asked, and finds what another one finds."""

    def __init__(self, graphs: Graphs) -> None:
        self._backend, self._index = graphs.backend, GraphIndex(graphs)
        self.last: Array = np.zeros(0)

    def search(self, query_BD, terms, ks):  # type: ignore[no-untyped-def]
        """Of all searches of a batch the last one is for the answer."""
        self.last = self._backend.get(query_BD)
        return self._index.search(query_BD, terms, ks)


def read_queries(bundle: Bundle, histories: Path, count: int, rng: np.random.Generator) -> dict[str, Array]:
    """By kind, (Q, D): of `count` users, whose histories end at a random event."""
    graphs = Graphs(bundle, OnnxBackend(bundle, 1))
    notes = NotesQueries(graphs)
    engine = Engine(graphs, index=notes)
    works = list(_works(bundle, histories, count, rng))
    shape = bundle.manifest.shape
    alive = np.flatnonzero(bundle.features["scale"].to_numpy() > 0)
    kinds: dict[str, list[Array]] = {"plain": [], "features": [], "concept": []}
    for work in works:
        edits = Edits(
            rng.choice(alive, FEATURES, replace=False),
            np.ones(FEATURES, np.float32),
            rng.uniform(-1, 1, FEATURES).astype(np.float32),
        )
        concept = {"concepts_C": rng.integers(shape.concepts, size=1), "concept_strengths_C": np.ones(1, np.float32)}
        for kind, steered in (("plain", {}), ("features", {"edits": edits}), ("concept", concept)):
            engine.run([work._replace(**steered)])
            kinds[kind].append(notes.last[0])
    return {kind: np.array(queries) for kind, queries in kinds.items()}


def _works(bundle: Bundle, path: Path, count: int, rng: np.random.Generator) -> Iterator[EngineRequest]:
    items, length = Items(bundle.items), bundle.manifest.window.length
    known = [rows for ids in read_histories(path, seed=0).item_ids if len(rows := items.rows(ids)) > 1]
    for user in rng.permutation(len(known))[:count]:
        rows = known[user][: rng.integers(1, len(known[user]))][-length:]
        yield EngineRequest(rows, k=10)
