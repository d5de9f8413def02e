"""Hidden states -> the best items: `upper`, then an index."""

from collections.abc import Sequence

from steersman_service.engine.backends.protocol import Tensor
from steersman_service.engine.graphs import Graphs, Pool
from steersman_service.engine.index.exact import GraphIndex, Index, SearchResult, Terms
from steersman_service.engine.observer import SILENT, Observer, timed
from steersman_service.engine.request import EngineRequest


class Searcher:
    def __init__(self, graphs: Graphs, index: Index | None = None, observer: Observer = SILENT) -> None:
        """`index` is the bundle's graph `search` unless another one is given."""
        self.index: Index = GraphIndex(graphs) if index is None else index
        self._graphs = graphs
        self._observer = observer
        hook = graphs.bundle.manifest.hook
        # After the last block the hidden state is the query, and `upper` has nothing to do (proto/README.md).
        self.is_query = hook.block == hook.blocks
        """Whether scores are linear in the hidden state."""

    def search(self, requests: Sequence[EngineRequest], pool: Pool) -> SearchResult:
        """The best items for the states `h_BD` of `pool`, a row for each request, under tilts and filters."""
        query_BD = self.queries(pool)
        items = len(self._graphs.bundle.items_ND)
        terms = [Terms(request.eligible_N, request.excluded_X, request.tilts_N) for request in requests]
        with timed(self._observer, "search"):
            return self.index.search(query_BD, terms, [min(request.k, items) for request in requests])

    def queries(self, pool: Pool) -> Tensor:
        """What items are scored by, for the states `h_BD` of `pool`. (B, D)"""
        if self.is_query:
            return pool["h_BD"]
        with timed(self._observer, "upper"):
            return self._graphs.run("upper", pool)["query_BD"]
