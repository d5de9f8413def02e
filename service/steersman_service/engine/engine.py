"""Computes a batch: history -> hidden state -> edits -> search, in the order of proto/README.md."""

from collections.abc import Sequence

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.index.exact import Index
from steersman_service.engine.observer import SILENT, Observer
from steersman_service.engine.request import Cost, EngineRequest, EngineResult
from steersman_service.engine.search import Searcher
from steersman_service.engine.steering import Steerer


class Engine:
    """Answers each request of a batch as it would be answered alone. Not thread-safe: one thread calls it.

    The engine does no edit arithmetic: it pads requests and feeds them to the bundle's graphs.
    """

    def __init__(
        self,
        graphs: Graphs,
        *,
        index: Index | None = None,
        history: HistoryReader | None = None,
        part_bytes: int | None = None,
        observer: Observer = SILENT,
    ) -> None:
        """Without more than `graphs`, it searches by the bundle's graph and keeps no history."""
        self.graphs = graphs
        self.bundle, self.backend = graphs.bundle, graphs.backend
        self.history = HistoryReader(graphs, observer=observer) if history is None else history
        self.states, self.key_values = self.history.states, self.history.key_values
        self._searcher = Searcher(graphs, index, observer)
        self.index = self._searcher.index
        self._steerer = Steerer(graphs, self._searcher, part_bytes=part_bytes, observer=observer)

    def run(self, batch: Sequence[EngineRequest]) -> list[EngineResult]:
        """The result of each request, in the order of the batch."""
        pool, computed = self.history.read(batch)
        concept_edits = self._steerer.resolve(batch, pool)
        edited_BD = self._steerer.edit(batch, concept_edits, pool)
        found = self._searcher.search(batch, pool | {"h_BD": edited_BD})
        # At the end: a GPU is waited for once.
        rows_BK, scores_BK, *states = self.backend.fetch([*found, *(part.h_BD for part in computed)])
        self.history.keep(computed, states)
        return [
            EngineResult(*_eligible(rows_K[: request.k], scores_K[: request.k]), edits)
            for request, rows_K, scores_K, edits in zip(batch, rows_BK, scores_BK, concept_edits, strict=True)
        ]

    def cost(self, request: EngineRequest) -> Cost:
        """What it would cost now. May be called from any thread, unlike all else."""
        concepts, masked = len(request.concepts_C), request.eligible_N is not None
        searches = 1 + bool(concepts)
        vectors = searches * masked + (request.tilts_N is not None) + searches - 1
        return Cost(1, self.positions(request), concepts * self._steerer.concept_features, vectors)

    def positions(self, request: EngineRequest) -> int:
        """Events that would be read now. May be called from any thread."""
        return self.history.new_events(request)

    def works(self) -> bool:
        """Whether it computes anything: after a fault, a GPU computes nothing for the rest of its process."""
        try:
            self.run([EngineRequest(np.zeros(1, np.int64), k=1)])
        except Exception:
            return False
        return True


def _eligible(rows_K: Array, scores_K: Array) -> tuple[Array, Array]:
    real = scores_K > -np.inf
    return rows_K[real], scores_K[real]
