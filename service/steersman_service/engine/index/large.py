"""Finds the best of very many items on a CPU: candidates by inverted lists (approximate) or a scan (exact), scored in float32.

Dimensions: B batch, D hidden, N items, K top-k, X excluded items, R rows, S sample of items.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from steersman_service.bundle.bundle import LISTS, SCAN, Array, Bundle
from steersman_service.engine.backends.protocol import Backend, Tensor
from steersman_service.engine.index.exact import SearchResult, Terms
from steersman_service.engine.index.lists import Lists
from steersman_service.engine.index.scan import Scan
from steersman_service.errors import BundleError

FEW = 4000
"""Up to as many eligible items are all scored: that is faster than lists or a scan."""
SAMPLE = 4096
"""Items from which it is estimated how many of all are better than what was found."""
DEEPER = 2
"""A filtered search goes as many times deeper than a random filter would need."""
LEAST_RECALL = 0.8
"""On the golden rows: lists that find less were made of other items."""


class LargeIndex:
    """Answers each request by itself, so that no other one decides how deep its search goes.

    The scan takes requests with tilts, which change what items are close, those that go deeper than the lists were measured, and those
    for which the lists find too few items.
    """

    def __init__(self, bundle: Bundle, backend: Backend, threads: int, *, approximate: bool) -> None:
        """Raises BundleError for files that are not what the bundle says, or do not find what its golden rows say."""
        self._backend = backend
        # Of numpy's own class: taking rows of a mapped file's is slow.
        self._items_ND, self._biases_N = np.asarray(bundle.items_ND), np.asarray(bundle.biases_N)
        size = len(self._items_ND)
        rows = np.sort(np.random.default_rng(0).permutation(size)[:SAMPLE])
        self._sample = _Sample(self._items_ND[rows], self._biases_N[rows], size / len(rows))
        self._scan = Scan(bundle, threads)
        self._lists = Lists(bundle, threads) if approximate else None
        self._check(bundle)

    def search(self, query_BD: Tensor, terms: Sequence[Terms], ks: Sequence[int]) -> SearchResult:
        queries_BD = self._backend.get(query_BD)
        rows_BK = np.empty((len(ks), max(ks)), np.int64)
        scores_BK = np.full(rows_BK.shape, -np.inf, np.float32)
        for place, (query_D, own, k) in enumerate(zip(queries_BD, terms, ks, strict=True)):
            best = self._best(query_D, own, k)
            rows_BK[place] = _filled(best.rows_K, max(ks))
            scores_BK[place, : len(best.rows_K)] = best.scores_K
        return SearchResult(self._backend.put(rows_BK), self._backend.put(scores_BK))

    def _best(self, query_D: Array, terms: Terms, k: int) -> "_Best":
        eligible = len(self._items_ND) if terms.eligible_N is None else int(np.count_nonzero(terms.eligible_N))
        if terms.eligible_N is not None and eligible <= FEW:
            rows_R = np.flatnonzero(terms.eligible_N)
            return self._scored(query_D, np.setdiff1d(rows_R, terms.excluded_X, assume_unique=True), terms, k)
        if self._lists is not None and terms.tilts_N is None:
            best = self._in_lists(self._lists, query_D, terms, k, eligible)
            if len(best.rows_K) == k:
                return best
        return self._scored(query_D, self._scan.candidates(query_D, terms, k), terms, k)

    def _in_lists(self, lists: Lists, query_D: Array, terms: Terms, k: int, eligible: int) -> "_Best":
        """Fewer than k where the lists do not suffice."""
        filtered = terms.eligible_N is not None
        depth = (DEEPER if filtered else 1) * k * len(self._items_ND) / max(1, eligible)
        best = self._scored(query_D, lists.candidates(query_D, terms, k, depth), terms, k)
        if not filtered or len(best.rows_K) < k:
            return best
        # Where a filter goes against the query, eligible items lie deeper than their share says.
        found = self._sample.depth(query_D, best.scores_K[-1])
        if found <= DEEPER * depth:
            return best
        return self._scored(query_D, lists.candidates(query_D, terms, k, found), terms, k)

    def _scored(self, query_D: Array, rows_R: Array, terms: Terms, k: int) -> "_Best":
        """The k best of `rows_R`."""
        scores_R = self._items_ND[rows_R] @ query_D + self._biases_N[rows_R]
        if terms.tilts_N is not None:
            scores_R += terms.tilts_N[rows_R]
        if len(rows_R) > k:
            # Those equal to the k-th stay: ties break by row.
            good = scores_R >= np.partition(scores_R, -k)[-k]
            rows_R, scores_R = rows_R[good], scores_R[good]
        best_K = np.lexsort((rows_R, -scores_R))[:k]
        return _Best(rows_R[best_K], scores_R[best_K])

    def _check(self, bundle: Bundle) -> None:
        """Every score must lie within the scan's error, and the best items must be in the lists."""
        hits = []
        for query_D in bundle.golden["search"]["query_BD"]:
            scores_N = self._items_ND @ query_D + self._biases_N
            estimates_N, error = self._scan.estimates(query_D)
            if (worst := np.abs(estimates_N - scores_N).max()) > error:
                raise BundleError(
                    SCAN, f"is wrong by up to {worst:.3g} on the golden rows; it says {error:.3g} at most"
                )
            if self._lists is not None:
                k = min(10, len(scores_N))
                found = self._best(query_D, Terms(), k)
                hits.append(np.isin(np.argpartition(-scores_N, k - 1)[:k], found.rows_K).mean())
        if hits and np.mean(hits) < LEAST_RECALL:
            raise BundleError(
                LISTS, f"finds {np.mean(hits):.0%} of the best items of the golden rows: is it of other items?"
            )


def _filled(rows_K: Array, width: int) -> Array:
    """With other items up to `width`, the first that are not there yet."""
    if len(rows_K) == width:
        return rows_K
    others = np.setdiff1d(np.arange(width), rows_K, assume_unique=True)
    return np.concatenate([rows_K, others[: width - len(rows_K)]])


class _Sample(NamedTuple):
    """Some of the items, drawn at random."""

    items_SD: Array
    biases_S: Array
    weight: float
    """Items that each of them stands for."""

    def depth(self, query_D: Array, score: float) -> float:
        """About how many of all items have a higher score."""
        return self.weight * float(np.count_nonzero(self.items_SD @ query_D + self.biases_S > score))


class _Best(NamedTuple):
    rows_K: Array
    scores_K: Array
