"""Searches for the saturating rate: the highest that is held without errors and with a bounded p99."""

import math
from collections.abc import Callable
from typing import NamedTuple

# Bounds of the search.
MOST_RATE = 1e6
MAX_CONFIRMATIONS = 8


class RateProbe(NamedTuple):
    """One trial of a rate."""

    rate: float
    seconds: float
    why_not: str
    """Why the rate was not held; empty if it was."""


class RateSearchResult(NamedTuple):
    """The result of a search."""

    rate: float | None
    """The saturating rate, or None if not even the lowest rate was held."""
    probes: list[RateProbe]

    @property
    def why_not(self) -> str:
        """Why the last probe was not held; empty if it was."""
        return self.probes[-1].why_not


class RateSearch(NamedTuple):
    """Doubles the rate until it is not held, bisects, then confirms."""

    start: float = 50.0
    """First rate, calls a second."""
    least: float = 1.0
    """The lowest rate that is tried."""
    precision: float = 0.05
    """The search ends when the lowest rate that was not held is at most this share above the highest that was."""
    probe_seconds: float = 5.0
    hold_seconds: float = 30.0
    """The result was held for this time."""

    def find(self, try_rate: Callable[[float, float], str]) -> RateSearchResult:
        """`try_rate(rate, seconds)` returns why a rate is not held; empty if it is.

        A failed probe is repeated once, so that one hiccup does not halve the result.
        """
        probes: list[RateProbe] = []

        def held(rate: float, seconds: float) -> bool:
            probes.append(RateProbe(rate, seconds, try_rate(rate, seconds)))
            return not probes[-1].why_not

        def probed(rate: float) -> bool:
            return held(rate, self.probe_seconds) or held(rate, self.probe_seconds)

        low, high = self._bracket(probed)
        while low and high / low > 1 + self.precision:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if probed(middle) else (low, middle)
        return RateSearchResult(self._confirmed(low, held) if low else None, probes)

    def _bracket(self, probed: Callable[[float], bool]) -> tuple[float, float]:
        """A rate that is held (0 if none is), and one that is not (MOST_RATE if all are)."""
        rate = self.start
        if probed(rate):
            while rate < MOST_RATE and probed(2 * rate):
                rate *= 2
            return rate, min(2 * rate, MOST_RATE)
        while rate > self.least and not probed(rate / 2):
            rate /= 2
        return (rate / 2, rate) if rate > self.least else (0.0, rate)

    def _confirmed(self, rate: float, held: Callable[[float, float], bool]) -> float | None:
        """The rate, or the next lower one that is held for `hold_seconds`."""
        for _ in range(MAX_CONFIRMATIONS):
            if held(rate, self.hold_seconds):
                return rate
            rate /= 1 + self.precision
        return None
