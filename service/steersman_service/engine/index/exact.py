"""Finds the best items for queries: the protocol, and the exact sibling that runs the bundle's graph `search`.

Dimensions: B batch, D hidden, N items, K top-k, X excluded items.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.backends.protocol import Backend, Tensor

NO_ROWS = np.zeros(0, np.int64)


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


class Found(NamedTuple):
    """The best items, best first, equal scores by row. Where fewer may be returned, others fill the rest, with score minus infinity."""

    rows_BK: Tensor
    scores_BK: Tensor


class Index(Protocol):
    """Answers each query as it would be answered alone. Not thread-safe: the engine's thread calls it."""

    def search(self, query_BD: Tensor, terms: Sequence[Terms], ks: Sequence[int]) -> Found:
        """The best items for each query, by query . item + bias + tilt: its own of `ks`, from 1 to N, or more.

        K is the largest of `ks`. Only an approximate index may miss any of them; scores are always exact.
        """


class GraphIndex:
    """Exact, by the bundle's graph `search`, on the backend's device. On a CPU it reads the whole item table for every batch."""

    def __init__(
        self,
        backend: Backend,
        constants: Mapping[str, Tensor],
        run: Callable[[dict[str, Tensor]], dict[str, Tensor]],
        size: int,
    ) -> None:
        """`run` takes what `search` asks for by name; `constants` are the item table and the biases, of `size` items."""
        self._put = backend.put
        self._constants = dict(constants)
        self._run = run
        self._size = size

    def search(self, query_BD: Tensor, terms: Sequence[Terms], ks: Sequence[int]) -> Found:
        found = self._run({**self._constants, "query_BD": query_BD, **self.given(terms, ks)})
        return Found(found["rows_BK"], found["scores_BK"])

    def given(self, terms: Sequence[Terms], ks: Sequence[int]) -> dict[str, Tensor]:
        """What the graph asks for beside queries and the item table."""
        given = {"eligible_BN": self._eligible(terms), "tilts_BN": self._tilts(terms), "k": np.array(max(ks), np.int64)}
        return {name: self._put(array) for name, array in given.items()}

    def _eligible(self, terms: Sequence[Terms]) -> Array:
        masks = [own.mask(self._size) for own in terms]
        if all(mask_N is None for mask_N in masks):
            return np.ones((1, 1), np.bool_)
        filled = [np.ones(self._size, np.bool_) if mask_N is None else mask_N for mask_N in masks]
        return np.stack(filled) if len(filled) > 1 else filled[0][None]

    def _tilts(self, terms: Sequence[Terms]) -> Array:
        if all(own.tilts_N is None for own in terms):
            return np.zeros((1, 1), np.float32)
        tilts_BN = np.zeros((len(terms), self._size), np.float32)
        for tilts_N, own in zip(tilts_BN, terms, strict=True):
            if own.tilts_N is not None:
                tilts_N[:] = own.tilts_N
        return tilts_BN
