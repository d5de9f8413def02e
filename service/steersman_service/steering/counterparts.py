"""Features of other bundles that lie beside this one, and the feature here that does the same.

Likeness is the correlation, over items that both bundles have and weighted by how often they are recommended, of what two features add
to scores. Two features are counterparts if each is the most alike to the other, if that is enough, and if they share a top item. So
nothing is carried to a feature that merely resembles what was meant. Of features that are equally alike, as those of two attribute values
with the same items are, the one of the same label is.

Dimensions: D hidden here, E hidden there, F features here, G features there, S items of both.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.bundle.older import OlderBundle, OlderBundles
from steersman_service.bundle.replacement import Replacements
from steersman_service.remembering import remembered
from steersman_service.steering.aims import TINY, Aims, Doubles
from steersman_service.steering.targets import LEAST_COMMON

LEAST_LIKENESS = 0.8
# What the same label adds to the likeness: more than rounding, and less than any difference that means something.
SAME_LABEL = 1e-6
# Of bundles: a pair for each feature is kept.
REMEMBERED = 64

Counterpart = tuple[int, float]
"""A feature of this bundle, and its likeness."""


class Counterparts:
    def __init__(
        self, items_ND: Array, labels: Sequence[str], aims: Aims, older: OlderBundles, replacements: Replacements
    ) -> None:
        """`items_ND` are the item vectors of this bundle, `labels` those of its features."""
        self._items_ND, self._aims = items_ND, aims
        self._labelled: dict[str, list[int]] = {}
        for feature, label in enumerate(labels):
            self._labelled.setdefault(label, []).append(feature)
        self._older, self._replacements = older, replacements
        self._known = remembered(REMEMBERED, self._find)

    def of(self, version: str) -> Mapping[int, Counterpart]:
        """By the features of bundle `version`: those that have one. None has if that bundle is away, or older than format 1.5.

        Reads that bundle the first time, which takes long: not on an event loop.
        """
        try:
            return self._known(version)
        except LookupError:
            return {}

    def _find(self, version: str) -> Mapping[int, Counterpart]:
        """Raises LookupError where nothing can be told, which is not remembered: the bundle may be put there later."""
        old = None if self._aims.why_not else self._older.read(version)
        if old is None:
            raise LookupError(version)
        counted = self._aims.weights_N[self._aims.counted_M].sum()
        if self._aims.weights_N[old.rows_S].sum() < LEAST_COMMON * counted:
            return {}
        likeness_GF = self._likeness(old)
        judged_GF = likeness_GF.copy()
        for feature, label in enumerate(old.labels):
            if label:
                judged_GF[feature, self._labelled.get(label, [])] += SAME_LABEL
        here_G, there_F = judged_GF.argmax(1), judged_GF.argmax(0)
        found = {}
        for feature, here in enumerate(here_G.tolist()):
            likeness = float(likeness_GF[feature, here])
            mutual = there_F[here] == feature and likeness >= LEAST_LIKENESS
            if mutual and self._replacements.alike(version, feature, here):
                found[feature] = (here, min(likeness, 1.0))
        return found

    def _likeness(self, old: OlderBundle) -> Doubles:
        """0 for dead features. (G, F)"""
        weights_S = self._aims.weights_N[old.rows_S] / self._aims.weights_N[old.rows_S].sum()
        there_SE, here_SD = (_centred(vectors, weights_S) for vectors in (old.vectors_SD, self._items_ND[old.rows_S]))
        there_GE = old.scales_F[:, None] * old.decoder_FD.astype(float)
        here_FD = self._aims.directions_FD
        weighted_ES = (there_SE * weights_S[:, None]).T
        covariance_GF = there_GE @ (weighted_ES @ here_SD) @ here_FD.T
        spread_G = _spread(there_GE, weighted_ES @ there_SE)
        spread_F = _spread(here_FD, (here_SD * weights_S[:, None]).T @ here_SD)
        scale_GF = spread_G[:, None] * spread_F
        alive_GF = (spread_G[:, None] > TINY) & (spread_F > TINY)
        return np.where(alive_GF, covariance_GF / np.maximum(scale_GF, TINY * TINY), 0.0)


def _centred(vectors_SD: Array, weights_S: Doubles) -> Doubles:
    vectors_SD = vectors_SD.astype(float)
    centred_SD: Doubles = vectors_SD - weights_S @ vectors_SD
    return centred_SD


def _spread(directions_FD: Doubles, covariance_DD: Doubles) -> Doubles:
    """Standard deviation over items of what each feature adds. (F,)"""
    spread_F: Doubles = np.sqrt(((directions_FD @ covariance_DD) * directions_FD).sum(1).clip(0))
    return spread_F
