"""Computes a batch: lower -> (candidates) -> concept -> edit -> upper -> search, as proto/README.md orders them.

The engine does no edit arithmetic. It lays requests out as padded tensors, and hands each graph what it asks for by
name.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from steersman_service.backend import Backend, Tensor
from steersman_service.bundle import Array, Bundle

Observe = Callable[[str, float], None]
"""Takes a stage ("lower") and its seconds."""
# What `concept` may ask for, by what the search for candidates calls it.
CANDIDATES = {"candidates_BK": "rows_BK", "candidate_scores_BK": "scores_BK"}


class Edits(NamedTuple):
    """z' = gain * z + strength * scale for each of E features."""

    features_E: Array
    gains_E: Array
    strengths_E: Array


class Work(NamedTuple):
    """A request, as the graphs want it."""

    ids_T: Array
    """Item rows of the window, oldest first."""
    edits: Edits
    """The request's own, without those of its concepts."""
    concepts_C: Array
    """Concept rows."""
    concept_strengths_C: Array
    eligible_N: Array
    k: int
    """From 1 to the largest that the caller may ask for; it may exceed N."""
    tilts_N: Array | None = None
    """Added to the scores, float32. None adds nothing."""


class Answer(NamedTuple):
    """What came out for one request."""

    rows_K: Array
    """Item rows, best first, equal scores by row. Fewer than k only if fewer are eligible."""
    scores_K: Array
    concept_edits: list[Edits]
    """What each of its concepts came down to."""


class Engine:
    """Not thread-safe: one thread calls it."""

    observe: Observe
    """Told of every graph that runs. It may be set when golden rows and warm-up, which are no requests, are over."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend
        self.observe = lambda stage, seconds: None
        # The item table is fed, not baked in: the graphs share one copy.
        self._constants = {
            "items_ND": backend.put(bundle.items_ND),
            "biases_N": backend.put(bundle.biases_N),
        }

    def run(self, batch: Sequence[Work]) -> list[Answer]:
        """Answers each request as it would be answered alone."""
        pool = self._constants | self._put(_history(batch))
        pool |= self._stage("lower", pool)
        concept_edits = self._concepts(batch, pool)
        edits = _merge([work.edits for work in batch], concept_edits)
        if edits.features_E.size:
            named = zip(("features_BE", "gains_BE", "strengths_BE"), edits, strict=True)
            edited = self._stage("edit", pool | self._put(dict(named)))["edited_BD"]
        else:
            edited = pool["h_BD"]
        ranked = self._rank(batch, pool, edited, _tilts(batch), max(work.k for work in batch))
        rows_BK, scores_BK = (self.backend.get(ranked[name]) for name in ("rows_BK", "scores_BK"))
        return [
            Answer(*_eligible(rows_K[: work.k], scores_K[: work.k]), own)
            for work, rows_K, scores_K, own in zip(batch, rows_BK, scores_BK, concept_edits, strict=True)
        ]

    def replay(self, graph: str, inputs: dict[str, Array]) -> dict[str, Array]:
        """Outputs of one graph for the given inputs; the item table is added."""
        outputs = self._stage(graph, self._constants | self._put(inputs))
        return {name: self.backend.get(tensor) for name, tensor in outputs.items()}

    def _concepts(self, batch: Sequence[Work], pool: dict[str, Tensor]) -> list[list[Edits]]:
        width = max(len(work.concepts_C) for work in batch)
        if not width:
            return [[] for _ in batch]
        feeds = pool | self._put(
            {
                "concepts_BC": _pad([work.concepts_C for work in batch], width, 0, np.int64),
                "concept_strengths_BC": _pad([work.concept_strengths_C for work in batch], width, 0, np.float32),
            }
        )
        wanted = {tensor.name for tensor in self.bundle.graphs["concept"].inputs}
        if "candidates_BK" in wanted:
            count = self.bundle.golden["concept"]["candidates_BK"].shape[1]
            # Without tilts, as without edits: what a concept comes down to depends on no other control.
            untilted_BN = np.zeros((len(batch), len(self.bundle.items_ND)), np.float32)
            found = self._rank(batch, pool, pool["h_BD"], untilted_BN, count)
            feeds |= {name: found[output] for name, output in CANDIDATES.items()}
        outputs = self._stage("concept", feeds)
        names = ("concept_features_BE", "concept_gains_BE", "concept_edits_BE")
        blocks = [np.split(self.backend.get(outputs[name]), width, axis=1) for name in names]
        return [
            [_unpad(Edits(*(block[c][row] for block in blocks))) for c in range(len(work.concepts_C))]
            for row, work in enumerate(batch)
        ]

    def _rank(
        self, batch: Sequence[Work], pool: dict[str, Tensor], state: Tensor, tilts_BN: Array, k: int
    ) -> dict[str, Tensor]:
        feeds = pool | {"h_BD": state}
        feeds |= self._stage("upper", feeds)
        eligible_BN = np.stack([work.eligible_N for work in batch])
        count = np.array(min(k, eligible_BN.shape[1]), np.int64)
        return self._stage("search", feeds | self._put({"eligible_BN": eligible_BN, "tilts_BN": tilts_BN, "k": count}))

    def _stage(self, graph: str, pool: dict[str, Tensor]) -> dict[str, Tensor]:
        start = time.perf_counter()
        wanted = [tensor.name for tensor in self.bundle.graphs[graph].inputs]
        outputs = self.backend.run(graph, {name: pool[name] for name in wanted})
        self.observe(graph, time.perf_counter() - start)
        return outputs

    def _put(self, arrays: dict[str, Array]) -> dict[str, Tensor]:
        return {name: self.backend.put(array) for name, array in arrays.items()}


def _history(batch: Sequence[Work]) -> dict[str, Array]:
    lengths = [len(work.ids_T) for work in batch]
    ids_BT = _pad([work.ids_T for work in batch], max(1, *lengths), 0, np.int64)
    return {"ids_BT": ids_BT, "lengths_B": np.array(lengths, np.int64)}


def _merge(own: Sequence[Edits], concept_edits: Sequence[Sequence[Edits]]) -> Edits:
    """All edits of each request, those of its concepts last, as one padded row each."""
    rows = [[edits, *others] for edits, others in zip(own, concept_edits, strict=True)]
    width = max(sum(len(edits.features_E) for edits in row) for row in rows)
    joined = [Edits(*(np.concatenate(parts) for parts in zip(*row, strict=True))) for row in rows]
    return Edits(
        _pad([row.features_E for row in joined], width, 0, np.int64),
        _pad([row.gains_E for row in joined], width, 1, np.float32),
        _pad([row.strengths_E for row in joined], width, 0, np.float32),
    )


def _tilts(batch: Sequence[Work]) -> Array:
    tilts_BN = np.zeros((len(batch), len(batch[0].eligible_N)), np.float32)
    for tilts_N, work in zip(tilts_BN, batch, strict=True):
        if work.tilts_N is not None:
            tilts_N[:] = work.tilts_N
    return tilts_BN


def _unpad(edits: Edits) -> Edits:
    real = (edits.gains_E != 1) | (edits.strengths_E != 0)
    return Edits(edits.features_E[real], edits.gains_E[real], edits.strengths_E[real])


def _pad(rows: Sequence[Array], width: int, fill: float, dtype: type[np.generic]) -> Array:
    padded = np.full((len(rows), width), fill, dtype)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: len(row)] = row
    return padded


def _eligible(rows_K: Array, scores_K: Array) -> tuple[Array, Array]:
    real = scores_K > -np.inf
    return rows_K[real], scores_K[real]
