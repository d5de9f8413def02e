"""The search, against made-up servers."""

import pytest

from steersman_loadtest.rate_search import MAX_CONFIRMATIONS, MOST_RATE, RateSearch, RateSearchResult

SEARCH = RateSearch(start=50, probe_seconds=5, hold_seconds=30)


def found(capacity: float, search: RateSearch = SEARCH, hold_capacity: float | None = None) -> RateSearchResult:
    """Of a server that holds `capacity` calls a second, and `hold_capacity` for long."""

    def try_rate(rate: float, seconds: float) -> str:
        limit = capacity if seconds < 30 or hold_capacity is None else hold_capacity
        return "" if rate <= limit else "p99 1000 ms"

    return search.find(try_rate)


@pytest.mark.parametrize("capacity", [1.5, 49, 50, 51, 437, 3210, 99_999])
def test_the_rate_is_found_to_a_twentieth(capacity: float) -> None:
    result = found(capacity)
    assert result.rate
    assert capacity / 1.05 <= result.rate <= capacity
    assert (result.probes[-1].rate, result.probes[-1].seconds, result.probes[-1].why_not) == (result.rate, 30, "")
    assert all(probe.seconds == 5 for probe in result.probes[:-1])
    assert len(result.probes) < 40


def test_a_rate_that_is_not_held_for_long_gives_way_to_the_next_lower_one() -> None:
    result = found(437, hold_capacity=380)
    assert result.rate
    assert 380 / 1.05**2 <= result.rate <= 380
    assert sum(probe.seconds == 30 for probe in result.probes) > 1


def test_one_hiccup_does_not_halve_the_outcome() -> None:
    hiccups = iter([True, False, False, True])

    def try_rate(rate: float, seconds: float) -> str:
        return "hiccup" if next(hiccups, False) or rate > 437 else ""

    result = SEARCH.find(try_rate)
    assert result.rate
    assert 437 / 1.05 <= result.rate <= 437


def test_the_search_is_bounded() -> None:
    nothing = found(0.5)
    assert nothing.rate is None
    assert nothing.probes[-1].rate <= 1
    for_short = found(437, hold_capacity=0)
    assert for_short.rate is None
    assert sum(probe.seconds == 30 for probe in for_short.probes) == MAX_CONFIRMATIONS
    everything = found(1e12)
    assert everything.rate
    assert MOST_RATE <= everything.rate <= 2 * MOST_RATE
