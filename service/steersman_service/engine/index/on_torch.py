"""Finds the best items with torch, on a CPU or a GPU: the same as the bundle's graph `search`, with less memory traffic.

Dimensions: B batch, D hidden, N items, K top-k, X excluded items of all requests, R some requests, or candidates of each, M chunks,
C items of a chunk.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from steersman_service.bundle.bundle import Array
from steersman_service.engine.backends.replayed import Replayed, Tensors
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.index.exact import SearchResult, Terms, in_parts
from steersman_service.engine.options import Precision

CHUNK = 128
"""Items whose best score stands for all of them at first."""
DEPTH, MORE = 4, 64
"""Half precision finds DEPTH * k + MORE candidates."""


class TorchIndex:
    """Reads every item for every batch. Scores stay on the device, and only what requests say of items is brought there.

    In half precision the item table that is read takes half the memory. It finds candidates, whose scores are computed from the table
    in float32: an item is missed only where rounding puts more than (DEPTH - 1) k + MORE others before it.
    """

    def __init__(self, graphs: Graphs, precision: Precision) -> None:
        """`graphs` are those of TorchBackend."""
        self.replayed: dict[int, Replayed] = {}
        """By K: `choose`, from recordings where its inputs fit one (recordings.py)."""
        self._backend = graphs.backend
        self._items_ND: torch.Tensor = graphs.tables["items_ND"]
        self._biases_N: torch.Tensor = graphs.tables["biases_N"]
        dtype = getattr(torch, precision)
        self._exact = dtype == torch.float32
        # Where it is float32, they are the same tensors.
        self._read_ND, self._read_biases_N = self._items_ND.to(dtype), self._biases_N.to(dtype)

    def search(self, query_BD: torch.Tensor, terms: Sequence[Terms], ks: Sequence[int]) -> SearchResult:
        with torch.inference_mode():
            return in_parts(self._search, self._backend, len(self._items_ND), query_BD, terms, max(ks))

    def _search(self, query_BD: torch.Tensor, terms: Sequence[Terms], k: int) -> SearchResult:
        scores_BN = self.scores(query_BD)
        tilted = self._tilts(terms)
        if tilted is not None:
            scores_BN.index_add_(0, tilted[0], tilted[1].to(scores_BN.dtype))
        self._leave_out(scores_BN, terms)
        if tilted is not None and not self._exact:
            return SearchResult(*self.choose(query_BD, scores_BN, k, tilted))
        recorded = min((most for most in self.replayed if most >= k), default=None)
        if recorded is None:
            return SearchResult(*self.choose(query_BD, scores_BN, k))
        rows_BK, scores_BK = self.replayed[recorded](query_BD, scores_BN)
        return SearchResult(rows_BK[:, :k], scores_BK[:, :k])

    def scores(self, query_BD: torch.Tensor) -> torch.Tensor:
        """Of every item, in the precision in which the table is read. (B, N)"""
        return F.linear(query_BD.to(self._read_ND.dtype), self._read_ND, self._read_biases_N)

    def choose(
        self,
        query_BD: torch.Tensor,
        scores_BN: torch.Tensor,
        k: int,
        tilted: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Tensors:
        """Rows and scores of the k best by `scores_BN`. In half precision `tilted` is added to the scores in float32."""
        if self._exact:
            return best(scores_BN, k)
        count = min(len(self._items_ND), DEPTH * k + MORE)
        # In the order of rows, by which equal scores are ordered.
        rows_BR = best(scores_BN, count).rows_BK.sort(1).values
        exact_BR = torch.bmm(F.embedding(rows_BR, self._items_ND), query_BD.unsqueeze(2)).squeeze(2)
        exact_BR += self._biases_N[rows_BR]
        if tilted is not None:
            exact_BR.index_add_(0, tilted[0], tilted[1].gather(1, rows_BR[tilted[0]]))
        exact_BR.masked_fill_(scores_BN.gather(1, rows_BR) == float("-inf"), float("-inf"))
        scores_BK, order_BK = _sorted(exact_BR, k)
        return rows_BR.gather(1, order_BK), scores_BK

    def _tilts(self, terms: Sequence[Terms]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Rows of the requests that have tilts, and their tilts, (R, N)."""
        tilts = {row: own.tilts_N for row, own in enumerate(terms) if own.tilts_N is not None}
        return self._stacked(tilts) if tilts else None

    def _leave_out(self, scores_BN: torch.Tensor, terms: Sequence[Terms]) -> None:
        """Minus infinity for what may not be returned: masks of those requests that have one, and excluded items one by one."""
        masks = {row: own.eligible_N for row, own in enumerate(terms) if own.eligible_N is not None}
        if masks:
            rows_R, masks_RN = self._stacked(masks)
            scores_BN.index_copy_(0, rows_R, scores_BN[rows_R].masked_fill_(~masks_RN, float("-inf")))
        size = scores_BN.shape[1]
        excluded_X = np.concatenate([row * size + own.excluded_X for row, own in enumerate(terms)])
        if len(excluded_X):
            scores_BN.view(-1).index_fill_(0, self._backend.put(excluded_X), float("-inf"))

    def _stacked(self, by_row: dict[int, Array]) -> tuple[torch.Tensor, torch.Tensor]:
        return self._backend.put(np.array(list(by_row))), self._backend.put(np.stack([*by_row.values()]))


def best(scores_BN: torch.Tensor, k: int, chunk: int = CHUNK) -> SearchResult:
    """The k best of each row, equal scores by row.

    They lie in the k chunks whose best items are best, the first chunks where these are equal: each of them has an item that goes before
    all of any other chunk. So every score is read once, and few are sorted.
    """
    size = scores_BN.shape[1]
    if size <= 2 * k * chunk:
        scores_BK, rows_BK = _sorted(scores_BN, k)
        return SearchResult(rows_BK, scores_BK)
    whole = size - size % chunk
    best_BM = scores_BN[:, :whole].unflatten(1, (-1, chunk)).amax(2)
    if whole < size:
        best_BM = torch.cat([best_BM, scores_BN[:, whole:].amax(1, keepdim=True)], dim=1)
    chunks_BK = _sorted(best_BM, k)[1].sort(1).values
    rows_BKC = chunks_BK.unsqueeze(2) * chunk + torch.arange(chunk, device=scores_BN.device)
    rows_BR = rows_BKC.flatten(1)
    # The last chunk may be short: what is beyond it comes after every item.
    found_BR = scores_BN.gather(1, rows_BR.clamp_max(size - 1)).masked_fill_(rows_BR >= size, float("-inf"))
    scores_BK, order_BK = _sorted(found_BR, k)
    return SearchResult(rows_BR.gather(1, order_BK), scores_BK)


def _sorted(scores_BR: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best scores and their places, equal ones by place."""
    scores_BR, order_BR = scores_BR.sort(dim=1, descending=True, stable=True)
    return scores_BR[:, :k], order_BR[:, :k]
