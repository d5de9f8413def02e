"""Finds the best items for queries: the protocol, and the exact sibling that runs the bundle's graph `search`.

Dimensions: B batch, D hidden, N items, K top-k, X excluded items.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.backends.protocol import Backend, Tensor
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.request import NO_ROWS

CALL_BYTES = 32 << 20
"""Of the largest array of a call. What takes more is computed in parts, so that memory does not grow with what a batch asks for."""
SCORE_BYTES = 4


class Terms(NamedTuple):
    """What one request says about items. What it does not say costs nothing, however many items there are."""

    eligible_N: Array | None = None
    """Which items may be returned. None: all."""
    excluded_X: Array = NO_ROWS
    """Rows that may not, whatever `eligible_N` says. Few, and each once."""
    tilts_N: Array | None = None
    """Added to the scores, float32. None adds nothing."""

    def mask(self, size: int) -> Array | None:
        """Which of the `size` items may be returned, in one array. None: all. (N)"""
        if not len(self.excluded_X):
            return self.eligible_N
        mask_N = np.ones(size, np.bool_) if self.eligible_N is None else self.eligible_N.copy()
        mask_N[self.excluded_X] = False
        return mask_N


class SearchResult(NamedTuple):
    """The best items, best first, equal scores by row. Where fewer may be returned, others fill the rest, with score minus infinity."""

    rows_BK: Tensor
    scores_BK: Tensor


class Index(Protocol):
    """Answers each query as it would be answered alone. Not thread-safe: the engine's thread calls it."""

    def search(self, query_BD: Tensor, terms: Sequence[Terms], ks: Sequence[int]) -> SearchResult:
        """The best items for each query, by query . item + bias + tilt: its own of `ks`, from 1 to N, or more.

        K is the largest of `ks`. Only an approximate index may miss any of them; scores are always exact.
        """


class GraphIndex:
    """Exact, by the bundle's graph `search`, on the backend's device. It reads the whole item table for every call."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self._size = len(graphs.bundle.items_ND)

    def search(self, query_BD: Tensor, terms: Sequence[Terms], ks: Sequence[int]) -> SearchResult:
        return in_parts(self._search, self._graphs.backend, self._size, query_BD, terms, max(ks))

    def _search(self, query_BD: Tensor, terms: Sequence[Terms], k: int) -> SearchResult:
        feeds = {"eligible_BN": self._eligible(terms), "tilts_BN": self._tilts(terms), "k": np.array(k, np.int64)}
        found = self._graphs.run("search", {"query_BD": query_BD, **self._graphs.put(feeds)})
        return SearchResult(found["rows_BK"], found["scores_BK"])

    def _eligible(self, terms: Sequence[Terms]) -> Array:
        if all(own.eligible_N is None and not len(own.excluded_X) for own in terms):
            return np.ones((1, 1), np.bool_)
        eligible_BN = np.ones((len(terms), self._size), np.bool_)
        for eligible_N, own in zip(eligible_BN, terms, strict=True):
            if own.eligible_N is not None:
                eligible_N[:] = own.eligible_N
            eligible_N[own.excluded_X] = False
        return eligible_BN

    def _tilts(self, terms: Sequence[Terms]) -> Array:
        if all(own.tilts_N is None for own in terms):
            return np.zeros((1, 1), np.float32)
        tilts_BN = np.zeros((len(terms), self._size), np.float32)
        for tilts_N, own in zip(tilts_BN, terms, strict=True):
            if own.tilts_N is not None:
                tilts_N[:] = own.tilts_N
        return tilts_BN


def in_parts(
    search: Callable[[Tensor, Sequence[Terms], int], SearchResult],
    backend: Backend,
    size: int,
    query_BD: Tensor,
    terms: Sequence[Terms],
    k: int,
) -> SearchResult:
    """Has `search` score `size` items for as many queries at once as CALL_BYTES allow on a CPU. A GPU takes them all."""
    most = max(1, CALL_BYTES // (SCORE_BYTES * size)) if backend.device == "cpu" else len(terms)
    if len(terms) <= most:
        return search(query_BD, terms, k)
    parts = [
        search(
            backend.take([query_BD], np.arange(begin, min(begin + most, len(terms)))), terms[begin : begin + most], k
        )
        for begin in range(0, len(terms), most)
    ]
    together = np.arange(len(terms))
    return SearchResult(*(backend.take(tensors, together) for tensors in zip(*parts, strict=True)))
