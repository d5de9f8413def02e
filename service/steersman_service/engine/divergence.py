"""How far controls move the scores of a request: the divergence of the steered scores of all items from the plain ones.

    KL(p || q) = sum_i p_i (s_i - t_i) - (log Z_s - log Z_t),    p = softmax(s), q = softmax(t)

of steered scores s and plain scores t, over the items that may be returned, in nats. Computed on the CPU, whatever the backend.

Dimensions: R requests, D hidden, N items, P items of a part.
"""

from collections.abc import Sequence

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.backends.protocol import Tensor
from steersman_service.engine.graphs import Graphs, Pool
from steersman_service.engine.index.exact import Terms
from steersman_service.engine.request import EngineRequest, variants_together
from steersman_service.engine.search import Searcher

PART_SCORES = 1 << 20
"""Held at a time, so that memory grows neither with the catalogue nor with the variants of a request."""


class Diverger:
    """Computes divergences for those requests of a batch alone that ask for them."""

    def __init__(self, graphs: Graphs, searcher: Searcher) -> None:
        self._graphs = graphs
        self._searcher = searcher

    def diverge(self, batch: Sequence[EngineRequest], pool: Pool, edited_BD: Tensor) -> list[float | None]:
        """The divergence of each request; None where it was not asked for. `pool` holds the states before edits."""
        found: list[float | None] = [None] * len(batch)
        rows = [row for row, request in enumerate(batch) if request.divergence]
        plain_RD, steered_RD = (
            self._graphs.backend.get(self._searcher.queries(self._graphs.select(states, ["upper"], rows, len(batch))))
            for states in (pool, pool | {"h_BD": edited_BD})
        )
        bundle = self._graphs.bundle
        # Of numpy's own class: taking parts of a mapped file's is slow.
        items_ND, biases_N = np.asarray(bundle.items_ND), np.asarray(bundle.biases_N)
        asking = [batch[row] for row in rows]
        for places in variants_together(asking):
            own = [asking[place] for place in places]
            values_R = divergences(plain_RD[places[0]], steered_RD[places], items_ND, biases_N, own)
            for place, value in zip(places, values_R.tolist(), strict=True):
                found[rows[place]] = value
        return found


def divergences(
    plain_D: Array,
    steered_RD: Array,
    items_ND: Array,
    biases_N: Array,
    requests: Sequence[EngineRequest],
    part_scores: int = PART_SCORES,
) -> Array:
    """KL(softmax(steered) || softmax(plain)) of requests with one history and mask, under the tilts of each. (R)

    0 if no item may be returned.
    """
    plain, steered = _LogSums(1), _LogSums(len(requests))
    mask_N = Terms(requests[0].eligible_N, requests[0].excluded_X).mask(len(items_ND))
    size = max(1, part_scores // len(requests))
    for begin in range(0, len(items_ND), size):
        own = slice(begin, begin + size)
        items_PD, chosen = items_ND[own], slice(None) if mask_N is None else mask_N[own]
        plain_P = (items_PD @ plain_D + biases_N[own])[chosen].astype(np.float64)
        if not len(plain_P):
            continue
        # The difference by itself: between two scores it would lose digits. Vector by vector: a product of matrices takes every
        # core there is, and waits for the last of them.
        moved_RP = np.array([(items_PD @ (steered_D - plain_D))[chosen] for steered_D in steered_RD], np.float64)
        for moved_P, request in zip(moved_RP, requests, strict=True):
            if request.tilts_N is not None:
                moved_P += request.tilts_N[own][chosen]
        plain.add(plain_P[None], None)
        steered.add(plain_P + moved_RP, moved_RP)
    if not plain.total_R.all():
        return np.zeros(len(requests))
    # Rounding may leave it a little below 0.
    divergences_R: Array = np.maximum(0.0, steered.mean_R - (steered.log_R - plain.log_R))
    return divergences_R


class _LogSums:
    """Of each row: log of a sum of exponentials, and a mean under their weights, part by part."""

    def __init__(self, rows: int) -> None:
        self.total_R, self._weighted_R = np.zeros(rows), np.zeros(rows)
        self._largest_R = np.full(rows, -np.inf)

    def add(self, scores_RP: Array, values_RP: Array | None) -> None:
        largest_R = np.maximum(self._largest_R, scores_RP.max(axis=1))
        shrunk_R = np.exp(self._largest_R - largest_R)
        weights_RP = np.exp(scores_RP - largest_R[:, None])
        self.total_R = self.total_R * shrunk_R + weights_RP.sum(axis=1)
        if values_RP is not None:
            self._weighted_R = self._weighted_R * shrunk_R + (weights_RP * values_RP).sum(axis=1)
        self._largest_R = largest_R

    @property
    def log_R(self) -> Array:
        return self._largest_R + np.log(self.total_R)

    @property
    def mean_R(self) -> Array:
        return self._weighted_R / self.total_R
