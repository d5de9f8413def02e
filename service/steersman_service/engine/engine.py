"""Computes a batch: history -> hidden state -> edits -> search, in the order of proto/README.md."""

from collections.abc import Sequence

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.accounts import Accountant
from steersman_service.engine.divergence import Diverger
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
        self._accountant = Accountant(graphs, self._searcher, observer)
        self._diverger = Diverger(graphs, self._searcher)

    def run(self, batch: Sequence[EngineRequest]) -> list[EngineResult]:
        """The result of each request, in the order of the batch."""
        variants = [variant.of(request) for request in batch for variant in request.variants]
        if not variants:
            return self._run(batch)
        results = self._run([*batch, *variants])
        others = iter(results[len(batch) :])
        return [
            result._replace(variants=[next(others) for _ in request.variants])
            for request, result in zip(batch, results, strict=False)
        ]

    def _run(self, batch: Sequence[EngineRequest]) -> list[EngineResult]:
        pool, computed = self.history.read(batch)
        concept_edits = self._steerer.resolve(batch, pool)
        edited_BD = self._steerer.edit(batch, concept_edits, pool)
        found = self._searcher.search(batch, pool | {"h_BD": edited_BD})
        # At the end: a GPU is waited for once.
        rows_BK, scores_BK, *states = self.backend.fetch([*found, *(part.h_BD for part in computed)])
        self.history.keep(computed, states)
        accounts = self._accountant.accounts(batch, pool)
        results = [
            EngineResult(*_eligible(rows_K[: request.k], scores_K[: request.k]), edits, account=account)
            for request, rows_K, scores_K, edits, account in zip(
                batch, rows_BK, scores_BK, concept_edits, accounts, strict=True
            )
        ]
        if not any(request.divergence for request in batch):
            return results
        diverged = self._diverger.diverge(batch, pool, edited_BD)
        return [result._replace(divergence=value) for result, value in zip(results, diverged, strict=True)]

    def cost(self, request: EngineRequest) -> Cost:
        """What it would cost now. May be called from any thread, unlike all else."""
        concepts, vectors = _concepts_and_vectors(request)
        for variant in request.variants:
            more_concepts, more_vectors = _concepts_and_vectors(variant.of(request))
            concepts, vectors = concepts + more_concepts, vectors + more_vectors
        features = concepts * self._steerer.concept_features
        cost = Cost(1 + len(request.variants), self.positions(request), features, vectors)
        return cost if request.account is None else self._accountant.with_account(cost, request)

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


def _concepts_and_vectors(request: EngineRequest) -> tuple[int, int]:
    """Those of a Cost, without its variants."""
    concepts, masked = len(request.concepts_C), request.eligible_N is not None
    searches = 1 + bool(concepts)
    return concepts, searches * masked + (request.tilts_N is not None) + searches - 1 + 2 * request.divergence
