"""Controls of one request that undo or double each other. Dimensions: C controls, E features that any of them edits."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

import numpy as np

from steersman_service.steering.aims import TINY, Aims

UNDOING, DOUBLING = -0.6, 0.8
"""Correlation over items of what two controls add to scores."""
KEPT = 4096

Edited = tuple[tuple[int, float], ...]
"""(feature, strength) of one control."""


class Conflicts:
    """Users' controls come again with every request: what is found is kept."""

    def __init__(self, aims: Aims) -> None:
        self._aims = aims

    def find(self, controls: Sequence[Edited]) -> Sequence[tuple[int, int, bool]]:
        """(control, an earlier one, whether they undo each other: else they double). A control without edits is in none."""
        if self._aims.why_not or sum(map(bool, controls)) < 2:
            return ()
        return self._kept(tuple(controls))

    @cached_property
    def _kept(self) -> Callable[[tuple[Edited, ...]], Sequence[tuple[int, int, bool]]]:
        return lru_cache(KEPT)(self._find)

    def _find(self, controls: tuple[Edited, ...]) -> Sequence[tuple[int, int, bool]]:
        features = sorted({feature for edits in controls for feature, _ in edits})
        place_of = {feature: place for place, feature in enumerate(features)}
        strengths_CE = np.zeros((len(controls), len(features)))
        for row, edits in enumerate(controls):
            for feature, strength in edits:
                strengths_CE[row, place_of[feature]] += strength
        covariance_CC = strengths_CE @ self._aims.covariance_FF[np.ix_(features, features)] @ strengths_CE.T
        spread_C = np.sqrt(np.diag(covariance_CC).clip(TINY))
        likeness_CC = covariance_CC / np.outer(spread_C, spread_C)
        likeness_CC[spread_C**2 <= TINY] = 0.0
        later, earlier = np.nonzero(np.tril((likeness_CC <= UNDOING) | (likeness_CC >= DOUBLING), -1))
        return [
            (c, other, bool(likeness_CC[c, other] < 0))
            for c, other in zip(later.tolist(), earlier.tolist(), strict=True)
        ]
