"""Which calls a front end takes, in made-up time."""

import heapq
import random
from collections.abc import Iterator

import pytest

from steersman_service.scheduling.admission import ALWAYS, AnswerEstimate, CallLimit


def test_one_tenant_may_take_all_and_another_still_gets_its_share() -> None:
    limit = CallLimit(8)
    assert [limit.enter("a") for _ in range(9)] == [True] * 8 + [False]
    assert [limit.enter("b") for _ in range(5)] == [True] * 4 + [False]
    assert limit.enter("c")
    assert limit.running == 13
    # Of three tenants each has a share of two and a bit.
    assert [limit.enter(tenant) for tenant in "abcc"] == [False, False, True, False]


def test_made_up_tenants_do_not_pass_twice_the_limit() -> None:
    limit = CallLimit(8)
    assert sum(limit.enter(f"t{number}") for number in range(100)) == 16
    for number in range(16):
        limit.leave(f"t{number}")
    assert limit.running == 0
    assert [limit.enter("a") for _ in range(9)] == [True] * 8 + [False]


def arrivals(rate: float, begin: float, end: float, chance: random.Random) -> Iterator[float]:
    while (begin := begin + chance.expovariate(rate)) < end:
        yield begin


class Server:
    """Answers one call after the other, `capacity` a second; one given up before its turn costs nothing. An estimate decides first."""

    def __init__(self, capacity: float) -> None:
        self.estimate = AnswerEstimate()
        self.capacity = capacity
        self._free = 0.0
        self._ends: list[tuple[float, bool]] = []

    def called(self, now: float, deadline: float) -> str:
        while self._ends and self._ends[0][0] <= now:
            end, answered = heapq.heappop(self._ends)
            self.estimate.end(end, answered=answered)
        if not self.estimate.admits(deadline):
            return "refused"
        self.estimate.begin(now)
        if max(now, self._free) < now + deadline:
            self._free = max(now, self._free) + 1 / self.capacity
        in_time = self._free <= now + deadline
        heapq.heappush(self._ends, (min(self._free, now + deadline), in_time))
        return "answered" if in_time else "late"


@pytest.mark.parametrize("factor", [1.5, 3, 10])
def test_beyond_what_can_be_answered_the_rest_is_refused_and_what_is_taken_is_in_time(factor: float) -> None:
    chance, server = random.Random(0), Server(1000)
    told = [(now, server.called(now, 0.1)) for now in arrivals(1000 * factor, 0, 3, chance)]
    # What came before the first measurement has to be worked off.
    after = [outcome for now, outcome in told if now > 1.5]
    assert after.count("answered") >= 0.95 * 1.5 * 1000
    assert after.count("late") <= 0.001 * len(after)


def test_below_that_nothing_is_refused_whatever_was_measured_before() -> None:
    chance, server = random.Random(0), Server(1000)
    for now in arrivals(3000, 0, 2, chance):
        server.called(now, 0.1)
    assert {server.called(now, 0.1) for now in arrivals(700, 3, 6, chance)} == {"answered"}
    # A burst that can be answered in time, after a pause.
    assert [server.called(8.0, 0.2) for _ in range(50)] == ["answered"] * 50
    # And one call at a time, which says nothing of how many could be answered.
    lonely = Server(100)
    for tick in range(200):
        assert lonely.called(0.02 * tick, 0.015) == "answered"
    assert lonely.estimate.rate == 0


def test_a_server_that_stood_still_is_found_again() -> None:
    """A few calls are always taken, and measured: an estimate that is far too low does not stay."""
    chance, server = random.Random(0), Server(5)
    for now in arrivals(100, 0, 5, chance):
        server.called(now, 0.5)
    assert server.estimate.rate < 20
    assert server.estimate.admits(0.001) == (server.estimate.running < ALWAYS)
    server.capacity = 1000
    told = [(now, server.called(now, 0.1)) for now in arrivals(2000, 8, 12, chance)]
    assert sum(outcome == "answered" for now, outcome in told if now > 10) > 0.9 * 2 * 1000
