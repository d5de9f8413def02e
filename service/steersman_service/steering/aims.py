"""Aims: what is to be raised, item by item, solved into a few features of this bundle.

Strengths s of features add V (sum_f s_f scale_f W_dec[f]) to the scores. Over items drawn as often as they are recommended (p):

    c_f = covariance of the aim with what f adds,   G = covariance of what the features add

and s maximises s.c - s'Gs/2, least squares, over few features, chosen greedily (orthogonal matching pursuit). A feature is used only
in the direction in which it agrees with the aim by itself, s_f c_f > 0: what an answer says was done is why it worked.

Dimensions: N items, M items counted, F features, D hidden, S items of a set, E features chosen.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from steersman.v1.feature_service_pb2 import FEATURE_KIND_ANCHORED
from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Rows

MOST_FEATURES = 8
# Part of what is explained that one feature more has to add.
LEAST_GAIN = 0.02
# Part of the weight that all items share evenly: those that are never recommended count, too.
EVEN = 0.2
# Of a larger catalogue, its most recommended items count alone.
MOST_COUNTED = 65_536
# An item table may bring a column of the same name that is no logarithm.
MOST_LOGARITHM = 30.0
TINY = 1e-12
ROUNDING = 1e-9

Doubles = npt.NDArray[np.float64]


class Solution(NamedTuple):
    """An aim as edits of features, at strength 1: as strong as a typical concept is at strength 1."""

    features: tuple[int, ...]
    """The strongest first. At most 8; none where no feature agrees with the aim."""
    strengths: tuple[float, ...]
    """In units of the features' scales."""
    raised: float
    """How far what the features add lifts what is aimed at above the mean of all items, in standard deviations over items. Of an aim
    that is a score for every item: their correlation, from 0 to 1."""

    @property
    def edits(self) -> tuple[tuple[int, float], ...]:
        """(feature, strength), the strongest first."""
        return tuple(zip(self.features, self.strengths, strict=True))


NOTHING = Solution((), (), 0.0)


class Aims:
    """Solves aims for one bundle. What all aims share is computed once."""

    def __init__(self, bundle: Bundle, catalogue: Catalogue) -> None:
        self._bundle, self._catalogue = bundle, catalogue
        self.why_not = _why_not(bundle)
        """Why this bundle's features cannot be aimed. Empty: they can."""

    def prepare(self) -> None:
        """Computes what all aims share: up to a second for a large catalogue, in which no call should have to wait."""
        if not self.why_not:
            assert self.typical_spread

    @cached_property
    def directions_FD(self) -> Doubles:
        """What strength 1 adds to the hidden state."""
        assert self._bundle.decoder_FD is not None
        scale_F = np.array([feature.scale for feature in self._catalogue.features])
        directions_FD: Doubles = scale_F[:, None] * self._bundle.decoder_FD.astype(float)
        return directions_FD

    @cached_property
    def weights_N(self) -> Doubles:
        """How often items are recommended, as shares of 1."""
        shown_N = _shown(self._bundle)
        weights_N: Doubles = (1 - EVEN) * shown_N / shown_N.sum() + EVEN / len(shown_N)
        return weights_N

    @cached_property
    def counted_M(self) -> Rows:
        """The items that count, in order of their rows."""
        if len(self.weights_N) <= MOST_COUNTED:
            return np.arange(len(self.weights_N))
        return np.sort(np.argpartition(-self.weights_N, MOST_COUNTED)[:MOST_COUNTED])

    @cached_property
    def _moments(self) -> tuple[Doubles, Doubles]:
        """Mean and covariance of item vectors. (D,), (D, D)"""
        vectors_MD = self._bundle.items_ND[self.counted_M].astype(float)
        weights_M = self.weights_N[self.counted_M] / self.weights_N[self.counted_M].sum()
        mean_D = weights_M @ vectors_MD
        centred_MD = vectors_MD - mean_D
        return mean_D, (centred_MD * weights_M[:, None]).T @ centred_MD

    @cached_property
    def covariance_FF(self) -> Doubles:
        """Of what the features add to the scores of items."""
        covariance_FF: Doubles = self.directions_FD @ self._moments[1] @ self.directions_FD.T
        return covariance_FF

    @cached_property
    def spread_F(self) -> Doubles:
        """Standard deviation of what each feature adds, over items. 0: dead."""
        spread_F: Doubles = np.sqrt(np.diag(self.covariance_FF).clip(0))
        return spread_F

    @cached_property
    def typical_spread(self) -> float:
        """What a control adds to scores at strength 1, as a standard deviation over items: the median of the concepts, or of features."""
        concepts = [
            self.spread([(term.feature_id, term.weight) for term in concept.terms])
            for concept in self._catalogue.concepts
        ]
        steerable = [self.spread_F[feature.id] for feature in self._catalogue.features if feature.steerable]
        known = [spread for spread in concepts or steerable or self.spread_F if spread > TINY]
        return float(np.median(known)) if known else 1.0

    @cached_property
    def _allowed(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which features may be turned up, and which down: those that say what they do."""
        features, alive_F = self._catalogue.features, self.spread_F > TINY
        anchored_F = np.array([feature.kind == FEATURE_KIND_ANCHORED for feature in features], np.bool_)
        clear_F = np.array([feature.clear for feature in features], np.bool_)
        steerable_F = np.array([feature.steerable for feature in features], np.bool_)
        up_F, down_F = alive_F & (clear_F | anchored_F), alive_F & (steerable_F | anchored_F)
        return (up_F, down_F) if up_F.any() else (alive_F, down_F)

    def spread(self, edits: Sequence[tuple[int, float]]) -> float:
        """Standard deviation over items of what (feature, strength) together add to scores."""
        features, strengths_E = [feature for feature, _ in edits], np.array([strength for _, strength in edits])
        variance = strengths_E @ self.covariance_FF[np.ix_(features, features)] @ strengths_E if features else 0.0
        return float(np.sqrt(max(variance, 0.0)))

    def lift(self, rows_S: Rows) -> Doubles:
        """What each feature adds to the mean item of a set, less the mean of all items. (F,)

        In the set's mean an item counts by the square root of how often it is recommended: those that are hardly ever recommended come into
        lists at a price, and say less of what a set has in common.
        """
        return self._lift(rows_S, np.sqrt(self.weights_N[rows_S]))

    def standard_lift(self, rows_S: Rows) -> Doubles:
        """The same in standard deviations over items, where all of the set count alike; 0 for a dead feature. (F,)"""
        lift_F = self._lift(rows_S, np.ones(len(rows_S)))
        return np.where(self.spread_F > TINY, lift_F / np.maximum(self.spread_F, TINY), 0.0)

    def _lift(self, rows_S: Rows, weights_S: Doubles) -> Doubles:
        mean_D = np.average(self._bundle.items_ND[rows_S].astype(float), axis=0, weights=weights_S)
        lift_F: Doubles = self.directions_FD @ (mean_D - self._moments[0])
        return lift_F

    def of_items(self, rows_S: Rows) -> Solution:
        """More of these items. The aim is the share wanted of each item over the share it has: its covariance is the lift."""
        return self.of_lift(self.lift(rows_S))

    def of_lift(self, lift_F: Doubles) -> Solution:
        """Of an aim of which the covariance with what each feature adds is known."""
        chosen, strengths_E = self._pursuit(lift_F)
        spread = self.spread(list(zip(chosen, strengths_E, strict=True)))
        if spread <= TINY:
            return NOTHING
        return self._scaled(
            chosen, strengths_E, self.typical_spread / spread, float(strengths_E @ lift_F[chosen]) / spread
        )

    def of_scores(self, rows_S: Rows, aim_S: Doubles) -> Solution:
        """Of an aim that is known for some items alone, and as strong as it: it adds as much to scores, as a standard deviation."""
        weights_S = self.weights_N[rows_S] / self.weights_N[rows_S].sum()
        vectors_SD = self._bundle.items_ND[rows_S].astype(float)
        aim_S = aim_S - weights_S @ aim_S
        chosen, strengths_E = self._pursuit(self.directions_FD @ (vectors_SD.T @ (weights_S * aim_S)))
        added_S = vectors_SD @ (strengths_E @ self.directions_FD[chosen])
        added_S -= weights_S @ added_S
        aimed, spread = np.sqrt(weights_S @ aim_S**2), np.sqrt(weights_S @ added_S**2)
        if min(aimed, spread) <= TINY:
            return NOTHING
        return self._scaled(
            chosen, strengths_E, aimed / spread, float(weights_S @ (aim_S * added_S)) / (aimed * spread)
        )

    def _scaled(self, chosen: list[int], strengths_E: Doubles, factor: float, raised: float) -> Solution:
        order = np.argsort(-np.abs(strengths_E), kind="stable")
        features = tuple(chosen[place] for place in order)
        return Solution(features, tuple((factor * strengths_E[order]).tolist()), raised)

    def _pursuit(self, c_F: Doubles) -> tuple[list[int], Doubles]:
        """Features and their strengths, by orthogonal matching pursuit."""
        up_F, down_F = self._allowed
        usable_F = np.where(c_F > 0, up_F, down_F) & (c_F != 0)
        standard_F = np.maximum(self.spread_F, TINY)
        chosen, strengths_E, explained = list[int](), np.zeros(0), 0.0
        while len(chosen) < MOST_FEATURES:
            rest_F = c_F - self.covariance_FF[:, chosen] @ strengths_E
            gain_F = np.where(usable_F, np.sign(c_F) * rest_F / standard_F, 0.0)
            gain_F[chosen] = 0.0
            # Of features that do the same, to rounding, the first.
            best = int((gain_F >= (1 - ROUNDING) * gain_F.max()).argmax())
            if gain_F[best] <= 0:
                break
            trial, trial_E = self._fitted([*chosen, best], c_F)
            now = float(trial_E @ c_F[trial])
            if now < (1 + LEAST_GAIN) * explained:
                break
            chosen, strengths_E, explained = trial, trial_E, now
        return chosen, strengths_E

    def _fitted(self, chosen: list[int], c_F: Doubles) -> tuple[list[int], Doubles]:
        """Least squares on some features. One that would be turned against its own agreement with the aim is left out."""
        while True:
            covariance_EE = self.covariance_FF[np.ix_(chosen, chosen)]
            ridge = 1e-9 * np.trace(covariance_EE) / len(chosen)
            strengths_E = np.linalg.solve(covariance_EE + ridge * np.eye(len(chosen)), c_F[chosen])
            agrees_E = strengths_E * c_F[chosen] > 0
            if agrees_E.all():
                return chosen, strengths_E
            chosen = [feature for feature, agrees in zip(chosen, agrees_E, strict=True) if agrees]


def _why_not(bundle: Bundle) -> str:
    if bundle.decoder_FD is None:
        return "the bundle is older than format 1.5 and does not say what its features add to scores; train it again"
    hook = bundle.manifest.hook
    if hook.block < hook.blocks:
        return f"the bundle's features act after block {hook.block} of {hook.blocks}, where what they add to scores is not known beforehand"
    return ""


def _shown(bundle: Bundle) -> Doubles:
    """How often each item is recommended, or chosen, or once: what the item table knows. (N,)"""
    for column in ("exposure", "popularity"):
        if column in bundle.items.column_names:
            shown_N: Array = bundle.items[column].to_numpy()
            if shown_N.dtype == np.float64 and np.isfinite(shown_N).all() and (shown_N >= 0).all() and shown_N.any():
                # The columns are ln(1 + count); one that an item table brings may be anything.
                return np.expm1(np.minimum(shown_N, MOST_LOGARITHM))
    return np.ones(bundle.items.num_rows)
