"""What may bring an item into a list, or take it off: an estimate of which controls cost least, and how near a list is to it.

Dimensions: D hidden, F features, N items, K top-k, X candidates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.bundle.catalogue import NATURAL_RANGE, Catalogue
from steersman_service.engine.request import EngineRequest, EngineResult

# Items on which the spread of a control's changes is estimated.
SAMPLE = 4096


class Candidate(NamedTuple):
    """A control and a direction."""

    control: Control
    """Its strength has to be set."""
    sign: int


class ControlCandidates:
    """All concepts, then all steerable features, as directions in which strength 1 moves the hidden state.

    A concept's strength depends on the state at hand; here it is the mean that the catalogue gives. Below the last block, directions are
    taken for those of queries.
    """

    def __init__(self, bundle: Bundle, catalogue: Catalogue) -> None:
        """`bundle` has directions of its features."""
        assert bundle.decoder_FD is not None
        self._items_ND = bundle.items_ND
        features = [feature for feature in catalogue.features if feature.steerable]
        self._controls = [Control(concept=one.name, operation=OPERATION_ADD) for one in catalogue.concepts]
        self._controls += [
            Control(feature=FeatureRef(id=one.id, bundle_version=bundle.version), operation=OPERATION_ADD)
            for one in features
        ]
        weights_XF = np.zeros((len(self._controls), len(catalogue.features)), np.float32)
        for row, concept in enumerate(catalogue.concepts):
            for term in concept.terms:
                weights_XF[row, term.feature_id] += term.weight
        for row, feature in enumerate(features, len(catalogue.concepts)):
            weights_XF[row, feature.id] = feature.unit_up
        scale_F = np.array([feature.scale for feature in catalogue.features], np.float32)
        self._directions_XD = (weights_XF * scale_F) @ bundle.decoder_FD
        sample_ND = bundle.items_ND[:: max(1, len(bundle.items_ND) // SAMPLE)]
        self._spread_X = (sample_ND @ self._directions_XD.T).std(0)

    def ranked(self, row: int, listed: Sequence[int], scores_R: Array) -> list[Candidate]:
        """Candidates that move the item of `row` the wanted way, the cheapest first. `scores_R` are of the list, and last of the item.

        An item out of the list is to rise above the last one in it; one in it is to fall below the others. The cheapest are those that
        move it most beside what they do to all scores; those that seem not to get it past the last one within twice the natural range
        come last.
        """
        inside = row in listed
        others = [other for other in listed if other != row] if inside else listed[-1:]
        if not others:
            return []
        gap = abs(scores_R[-1] - scores_R[len(listed) - 1])
        rival_D = self._items_ND[np.array(others)].mean(0)
        lifts_X = self._directions_XD @ (self._items_ND[row] - rival_D)
        moving = np.flatnonzero((lifts_X != 0) & (self._spread_X > 0))
        reach = np.abs(lifts_X[moving]) * 2 * NATURAL_RANGE < gap
        order = moving[np.lexsort((-np.abs(lifts_X[moving]) / self._spread_X[moving], reach))]
        return [Candidate(self._controls[one], -1 if (lifts_X[one] > 0) == inside else 1) for one in order.tolist()]


def eligible(request: EngineRequest, row: int) -> bool:
    """Whether the item of `row` may be in the list at all."""
    return (request.eligible_N is None or bool(request.eligible_N[row])) and row not in request.excluded_X


def overlap(listed: Sequence[int], rows_K: Array) -> float:
    """Share of the present list that is in `rows_K`. 1 if it is empty."""
    return float(np.isin(listed, rows_K).mean()) if len(listed) else 1.0


def margin(result: EngineResult, row: int, k: int) -> float:
    """How far the item of `row` is above the first that is not among the k best of `result`, which has one more.

    Minus infinity: it is not among them itself. Infinity: none is left out.
    """
    places = np.flatnonzero(result.rows_K[:k] == row)
    if not len(places):
        return -np.inf
    return float(result.scores_K[places[0]] - result.scores_K[k]) if len(result.rows_K) > k else np.inf
