"""Puts a list together from scored candidates: pinned items, caps on values, least shares, and maximal marginal relevance.

Dimensions: M candidates, D hidden, V values of an attribute, S shares, K top-k.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.bundle.items import Mask


class Cap(NamedTuple):
    """At most `most` items of the list with each value of an attribute."""

    attribute: str
    most: int
    values: Sequence[str]
    """Those that any candidate has."""
    has_VM: Mask


class Share(NamedTuple):
    """At least `wanted` items of the list out of a set."""

    label: str
    wanted: int
    has_M: Mask


class Arrangement(NamedTuple):
    """A list, and what it could not hold."""

    places_K: Array
    """Which candidates, in the order of the list."""
    exceeded: Sequence[str]
    """For each attribute whose cap does not hold, what is wrong, for people."""
    short: Sequence[str]
    """For each share that was not reached, what is wrong, for people."""


def arrange(
    scores_M: Array,
    k: int,
    *,
    pinned: Sequence[int] = (),
    caps: Sequence[Cap] = (),
    shares: Sequence[Share] = (),
    diversity: float = 0.0,
    vectors_MD: Array | None = None,
) -> Arrangement:
    """Chooses greedily, one item after the other, min(k, M) of them. Candidates come best first; the first of equals is taken.

    The next item is the one of the largest (1 - diversity) * relevance - diversity * (largest cosine with an item chosen before): maximal
    marginal relevance (Carbonell & Goldstein 1998, doi:10.1145/290941.291025), where relevance is the score, from 0 (the last
    candidate) to 1 (the best). `vectors_MD` are the items' vectors; only diversity needs them. `pinned` candidates come first whatever the
    caps say. A cap is exceeded only where every candidate left would exceed one. Where the open places are as many as the shares still
    want, only items of these are taken, unless caps forbid all of them.
    """
    choice = _Choice(scores_M, caps, shares, diversity, vectors_MD)
    wanted = min(k, len(scores_M))
    for place in pinned[:wanted]:
        choice.take(place)
    while len(choice.places) < wanted:
        choice.take(choice.best(wanted - len(choice.places)))
    return Arrangement(np.array(choice.places, np.int64), choice.exceeded(), choice.short(wanted))


class _Choice:
    """The list so far."""

    def __init__(
        self,
        scores_M: Array,
        caps: Sequence[Cap],
        shares: Sequence[Share],
        diversity: float,
        vectors_MD: Array | None,
    ) -> None:
        self.places: list[int] = []
        self._caps, self._shares = caps, shares
        self._open_M = np.ones(len(scores_M), np.bool_)
        self._counts = [np.zeros(len(cap.values), np.int64) for cap in caps]
        # How many full values each candidate has: it may be taken while this is 0.
        self._full_M = np.zeros(len(scores_M), np.int64)
        self._missing_S = np.array([min(share.wanted, share.has_M.sum()) for share in shares], np.int64)
        self._diversity = diversity if vectors_MD is not None else 0.0
        self._worth_M = (1.0 - self._diversity) * _relevance(scores_M) if self._diversity else scores_M
        self._units_MD = _units(vectors_MD) if vectors_MD is not None and self._diversity else None
        self._closest_M: Array | None = None

    def best(self, places_left: int) -> int:
        """The candidate to take next."""
        allowed_M = self._allowed()
        if self._missing_S.sum() >= places_left:
            of_shares_M = np.zeros_like(allowed_M)
            for share, missing in zip(self._shares, self._missing_S, strict=True):
                if missing > 0:
                    of_shares_M |= share.has_M
            if (of_shares_M & allowed_M).any():
                allowed_M = of_shares_M & allowed_M
        worth_M = self._worth_M
        if self._closest_M is not None:
            worth_M = worth_M - self._diversity * self._closest_M
        return int(np.argmax(np.where(allowed_M, worth_M, -np.inf)))

    def _allowed(self) -> Mask:
        """Candidates left that exceed the fewest caps, none where that is possible."""
        least = self._full_M[self._open_M].min()
        allowed_M: Mask = self._open_M & (self._full_M == least)
        return allowed_M

    def take(self, place: int) -> None:
        self.places.append(place)
        self._open_M[place] = False
        for cap, count_V in zip(self._caps, self._counts, strict=True):
            for value in np.flatnonzero(cap.has_VM[:, place]):
                count_V[value] += 1
                if count_V[value] == cap.most:
                    self._full_M += cap.has_VM[value]
        for number, share in enumerate(self._shares):
            self._missing_S[number] -= share.has_M[place]
        np.maximum(self._missing_S, 0, out=self._missing_S)
        if self._units_MD is not None:
            cosine_M = self._units_MD @ self._units_MD[place]
            self._closest_M = cosine_M if self._closest_M is None else np.maximum(self._closest_M, cosine_M)

    def exceeded(self) -> list[str]:
        notes = []
        for cap, count_V in zip(self._caps, self._counts, strict=True):
            over = [
                f"{cap.values[value][:50]} {count_V[value]}" for value in np.flatnonzero(count_V > cap.most).tolist()
            ]
            if over:
                shown = ", ".join(over[:5]) + (f" and {len(over) - 5} more" if len(over) > 5 else "")
                notes.append(f"most {cap.most} for each of {cap.attribute}: the list has {shown}")
        return notes

    def short(self, length: int) -> list[str]:
        notes = []
        for share in self._shares:
            found = int(share.has_M[self.places].sum())
            if found < share.wanted:
                notes.append(f"least share of {share.label}: {found} of {length} items, {share.wanted} wanted")
        return notes


def _relevance(scores_M: Array) -> Array:
    """Scores from 0 to 1. Of equal ones, 1."""
    if not len(scores_M):
        return scores_M
    scores_M = scores_M.astype(np.float64)
    least, most = scores_M.min(), scores_M.max()
    return (scores_M - least) / (most - least) if most > least else np.ones_like(scores_M)


def _units(vectors_MD: Array) -> Array:
    """Of length 1; an item without a direction is like nothing."""
    vectors_MD = vectors_MD.astype(np.float64)
    lengths_M = np.linalg.norm(vectors_MD, axis=1, keepdims=True)
    return vectors_MD / np.where(lengths_M > 0, lengths_M, 1.0)
