"""Controls of one request that undo or double each other. Dimensions: C controls, E features that any of them edits, F all features."""

from collections.abc import Callable, Sequence

import numpy as np

from steersman_service.remembering import remembered
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
        self._kept: Callable[[tuple[Direction, ...]], Found] = remembered(KEPT, self._judge)
        self._related: Callable[[int], dict[int, float]] = remembered(None, self._related_features)

    def find(self, controls: Sequence[Direction]) -> Found:
        return () if self._aims.why_not else self._kept(tuple(controls))

    def _judge(self, controls: tuple[Direction, ...]) -> Found:
        if any(len(edits) > 1 for edits, _ in controls):
            return self._find(controls)
        turned: list[tuple[int, int, int]] = []  # place, feature, which way
        found: list[tuple[int, int, bool]] = []
        for place, (edits, sign) in enumerate(controls):
            if not (sign and edits):
                continue
            (feature, strength), *_ = edits
            way = sign if strength > 0 else -sign
            related = self._related(feature)
            for earlier, other, other_way in turned:
                likeness = related.get(other, 0.0) * way * other_way
                if likeness <= UNDOING or likeness >= DOUBLING:
                    found.append((place, earlier, likeness < 0))
            turned.append((place, feature, way))
        return found

    def _related_features(self, feature: int) -> dict[int, float]:
        """Likeness of the features that undo or double this one, whichever way they are turned; itself among them."""
        covariance_F, scale_F = self._aims.covariance_FF[feature], self._aims.spread_F * self._aims.spread_F[feature]
        likeness_F = np.divide(covariance_F, scale_F, out=np.zeros_like(scale_F), where=scale_F > TINY)
        near = np.flatnonzero(np.abs(likeness_F) >= min(-UNDOING, DOUBLING))
        return dict(zip(near.tolist(), likeness_F[near].tolist(), strict=True))

    def _find(self, controls: tuple[Direction, ...]) -> Found:
        """Of controls with several edits each."""
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
