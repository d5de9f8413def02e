"""What the engine takes and gives.

Dimensions: T events, E edits, C concepts, N items, X excluded items, K top-k. Of accounts: F features, R items, J features
named, M controls.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from steersman_service.bundle.bundle import Array

NO_ROWS = np.zeros(0, np.int64)
NO_STRENGTHS = np.zeros(0, np.float32)


class Edits(NamedTuple):
    """z' = gain * z + strength * scale for each of E features."""

    features_E: Array
    gains_E: Array
    strengths_E: Array

    @classmethod
    def joined(cls, edits: Sequence["Edits"]) -> Self:
        return cls(*(np.concatenate(parts) for parts in zip(*edits, strict=True)))

    def without_padding(self) -> "Edits":
        real_E = (self.gains_E != 1) | (self.strengths_E != 0)
        return Edits(self.features_E[real_E], self.gains_E[real_E], self.strengths_E[real_E])


NO_EDITS = Edits(NO_ROWS, NO_STRENGTHS, NO_STRENGTHS)


class AccountQuery(NamedTuple):
    """What is to be accounted for. The request names its edits alone: a concept stands there as the edits that it came down to."""

    rows_R: Array = NO_ROWS
    """Item rows whose scores are taken apart. One may come twice."""
    owners_E: Array = NO_ROWS
    """The control, from 0, that each edit of the request belongs to."""
    controls: int = 0
    """M, those without edits included."""
    top: int = 5
    """Features named in the taste and for each item, J at most. 0: only activations are asked for."""


class Variant(NamedTuple):
    """Other controls for a request."""

    edits: Edits = NO_EDITS
    concepts_C: Array = NO_ROWS
    concept_strengths_C: Array = NO_STRENGTHS
    tilts_N: Array | None = None

    def of(self, request: "EngineRequest") -> "EngineRequest":
        """`request` under these controls in place of its own."""
        edits, concepts_C, concept_strengths_C, tilts_N = self
        return request._replace(
            edits=edits,
            concepts_C=concepts_C,
            concept_strengths_C=concept_strengths_C,
            tilts_N=tilts_N,
            variants=(),
        )


class EngineRequest(NamedTuple):
    """A history, controls and filters, in rows of the bundle's tables."""

    ids_T: Array
    """Item rows of the window, oldest first."""
    edits: Edits = NO_EDITS
    """Without those of the concepts."""
    concepts_C: Array = NO_ROWS
    """Concept rows."""
    concept_strengths_C: Array = NO_STRENGTHS
    eligible_N: Array | None = None
    """Which items may be returned. None: all."""
    k: int = 10
    """Items wanted, from 1. It may exceed N."""
    tilts_N: Array | None = None
    """Added to the scores, float32. None adds nothing."""
    excluded_X: Array = NO_ROWS
    """Rows that may not be returned, whatever `eligible_N` says. Few, and each once."""
    grows: bool = False
    """The history is a session's, which will be read again with more events."""
    account: AccountQuery | None = None
    """None costs nothing."""
    divergence: bool = False
    """Whether the result says how far the controls move the scores."""
    variants: Sequence[Variant] = ()
    """The same under other controls, computed beside it: the history is read once."""


class Account(NamedTuple):
    """What scores are made of. For each item: its named features + other + unexplained + bias + controls = score, tilts aside."""

    activations_F: Array
    """Before any edit, in units of the natural maximum; 0 for dead features."""
    taste_J: Array
    """Active features, the largest share of the spread first."""
    shares_J: Array
    """Covariance of what each adds to the scores of all items with these scores, as a part of their variance."""
    unexplained_share: float
    """Of no feature: of the rest of the state, and of the items' biases."""
    scores_R: Array
    """After all edits, without tilts: from the state that the graph `edit` gives, not from the parts."""
    features_RJ: Array
    """Those that add most to each score, in magnitude, before any edit."""
    amounts_RJ: Array
    other_R: Array
    """Of the features that are not named."""
    unexplained_R: Array
    """Of the state without features."""
    biases_R: Array
    controls_RM: Array
    """What the edits of each control add, in their order."""


class EngineResult(NamedTuple):
    """The answer to one request."""

    rows_K: Array
    """Item rows, best first, equal scores by row. Fewer than k only if fewer are eligible."""
    scores_K: Array
    concept_edits: list[Edits]
    """The edits that each concept came down to."""
    account: Account | None = None
    """If it was asked for."""
    queue_seconds: float = 0.0
    """From arrival at the queue to the start of the batch."""
    inference_seconds: float = 0.0
    """Of the whole batch."""
    batch_size: int = 1
    divergence: float | None = None
    """Of the steered scores from the plain ones, in nats (`engine/divergence.py`); None if it was not asked for."""
    variants: Sequence["EngineResult"] = ()
    """Of each variant of the request."""


class Cost(NamedTuple):
    """What a request asks of the engine, for the queue's latency model. Costs add up."""

    requests: int
    positions: int
    """Events that have to be read: those of the history that no cache holds."""
    concept_features: int
    """Features of concepts: each is solved for the request's own candidates."""
    item_vectors: int
    """Arrays of N items beside the scores: a mask, a tilt; with concepts, the scores of their candidates and the mask once more; with a
    divergence, plain and steered scores."""


def variants_together(requests: Sequence[EngineRequest]) -> list[list[int]]:
    """Places of `requests`, those of one request's variants together: they share the arrays of its history and its mask."""
    places: dict[tuple[int, int, int], list[int]] = {}
    for place, request in enumerate(requests):
        shared = (id(request.ids_T), id(request.eligible_N), id(request.excluded_X))
        places.setdefault(shared, []).append(place)
    return list(places.values())
