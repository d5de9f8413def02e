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
from steersman_service.engine.request import EngineRequest
from steersman_service.engine.search import Searcher

PART_ITEMS = 1 << 20
"""Scored at a time, so that memory does not grow with the catalogue."""


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
        for row, plain_D, steered_D in zip(rows, plain_RD, steered_RD, strict=True):
            found[row] = divergence(plain_D, steered_D, items_ND, biases_N, batch[row])
        return found


def divergence(
    plain_D: Array, steered_D: Array, items_ND: Array, biases_N: Array, request: EngineRequest, part: int = PART_ITEMS
) -> float:
    """KL(softmax(steered) || softmax(plain)) under the request's mask and tilts; 0 if no item may be returned."""
    plain, steered = _LogSum(), _LogSum()
    allowed_N = Terms(request.eligible_N, request.excluded_X).mask(len(items_ND))
    for begin in range(0, len(items_ND), part):
        own = slice(begin, begin + part)
        # Vector by vector: a product of matrices takes every core there is, and waits for the last of them.
        plain_P = (items_ND[own] @ plain_D + biases_N[own]).astype(np.float64)
        # The difference by itself: between two scores it would lose digits.
        moved_P = (items_ND[own] @ (steered_D - plain_D)).astype(np.float64)
        if request.tilts_N is not None:
            moved_P += request.tilts_N[own]
        if allowed_N is not None:
            plain_P, moved_P = plain_P[allowed_N[own]], moved_P[allowed_N[own]]
        if len(plain_P):
            plain.add(plain_P, moved_P)
            steered.add(plain_P + moved_P, moved_P)
    # Rounding may leave it a little below 0.
    return max(0.0, steered.mean - (steered.log - plain.log)) if plain.total else 0.0


class _LogSum:
    """log of a sum of exponentials, and a mean under their weights, part by part."""

    def __init__(self) -> None:
        self.total = 0.0
        self._largest = -np.inf
        self._weighted = 0.0

    def add(self, scores_P: Array, values_P: Array) -> None:
        largest = max(self._largest, float(scores_P.max()))
        shrunk, weights_P = np.exp(self._largest - largest), np.exp(scores_P - largest)
        self.total = self.total * shrunk + float(weights_P.sum())
        self._weighted = self._weighted * shrunk + float(weights_P @ values_P)
        self._largest = largest

    @property
    def log(self) -> float:
        return float(self._largest + np.log(self.total))

    @property
    def mean(self) -> float:
        return self._weighted / self.total
