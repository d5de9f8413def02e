"""Controls of one request that undo or double each other. Dimensions: C controls, E features that any of them edits, F all features."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np

from steersman_service.steering.aims import TINY, Aims

UNDOING, DOUBLING = -0.6, 0.8
"""Correlation over items of what two controls add to scores."""
KEPT = 4096

Direction = tuple[tuple[tuple[int, float], ...], int]
"""What a control adds at strength 1, (feature, strength), and the sign of its strength: how strong it is does not matter. 0: not judged."""
Found = Sequence[tuple[int, int, bool]]
"""(control, an earlier one, whether they undo each other: else they double)."""
UNJUDGED: Direction = ((), 0)


class Conflicts:
    """Users' controls come again with every request: what is found is kept."""

    def __init__(self, aims: Aims) -> None:
        self._aims = aims
        self._kept: Callable[[tuple[Direction, ...]], Found] = lru_cache(KEPT)(self._find)
        self._related: Callable[[int], frozenset[int]] = cache(self._related_features)

    def find(self, controls: Sequence[Direction]) -> Found:
        if self._aims.why_not or self._are_apart(controls):
            return ()
        return self._kept(tuple(controls))

    def _are_apart(self, controls: Sequence[Direction]) -> bool:
        """Whether all edit one feature each, and no two features have much to do with each other. Nearly always, and found quickly."""
        seen: set[int] = set()
        for edits, sign in controls:
            if not (sign and edits):
                continue
            if len(edits) != 1 or not seen.isdisjoint(self._related(edits[0][0])):
                return False
            seen.add(edits[0][0])
        return True

    def _related_features(self, feature: int) -> frozenset[int]:
        """Features that may undo or double this one, itself among them."""
        covariance_F, scale_F = self._aims.covariance_FF[feature], self._aims.spread_F * self._aims.spread_F[feature]
        return frozenset(np.flatnonzero((scale_F > 0) & (np.abs(covariance_F) >= -UNDOING * scale_F)).tolist())

    def _find(self, controls: tuple[Direction, ...]) -> Found:
        features = sorted({feature for edits, sign in controls if sign for feature, _ in edits})
        if not features:
            return ()
        place_of = {feature: place for place, feature in enumerate(features)}
        strengths_CE = np.zeros((len(controls), len(features)))
        for row, (edits, sign) in enumerate(controls):
            for feature, strength in edits if sign else ():
                strengths_CE[row, place_of[feature]] += sign * strength
        covariance_CC = strengths_CE @ self._aims.covariance_FF[np.ix_(features, features)] @ strengths_CE.T
        variance_C = np.diag(covariance_CC)
        scale_CC = np.sqrt(np.outer(variance_C, variance_C).clip(0))
        likeness_CC = np.divide(covariance_CC, scale_CC, out=np.zeros_like(scale_CC), where=scale_CC > TINY)
        later, earlier = np.nonzero(np.tril((likeness_CC <= UNDOING) | (likeness_CC >= DOUBLING), -1))
        return [
            (c, other, bool(likeness_CC[c, other] < 0))
            for c, other in zip(later.tolist(), earlier.tolist(), strict=True)
        ]
