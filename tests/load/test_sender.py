"""The open loop: calls leave when they are due, and latency counts from then."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from steersman.v1.recommendation_service_pb2 import RecommendRequest, RecommendResponse
from steersman_loadtest import sender
from steersman_loadtest.record import CallKind, CallOutcome, CallRecord
from steersman_loadtest.scenario import Scenario
from steersman_loadtest.sender import RunOrder, arrivals
from tests.load.proxy import Proxy, Recommend, Refused
from tests.load.running import mixed, run
from tests.serving import serving, settings_for

STALL_SECONDS = 1.0


def order(**changes: object) -> RunOrder:
    settings = {"start": 0, "seconds": 10, "rate": 50, "poisson": True, "offset": 0.5, "seed": 0, "checked": 1}
    return RunOrder(**{**settings, "timeout_seconds": 5, **changes})  # type: ignore[arg-type]


def test_even_arrivals_of_several_clients_interleave() -> None:
    both = [list(arrivals(order(poisson=False, offset=offset))) for offset in (0.25, 0.75)]
    merged = sorted(at for one in both for at in one)
    assert len(merged) == 1000
    assert merged == pytest.approx([0.005 + 0.01 * n for n in range(1000)])


def test_random_arrivals_have_the_rate_and_come_from_the_seed() -> None:
    first = list(arrivals(order(seconds=1000)))
    assert len(first) == pytest.approx(50_000, rel=0.02)
    gaps = [b - a for a, b in pairwise(first)]
    assert sum(gap > 1 / 50 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.01)  # e to the -1
    assert list(arrivals(order(seconds=1000))) == first
    assert list(arrivals(order(seconds=1000, seed=1))) != first
    assert all(0 <= at < 1000 for at in first)


async def test_a_server_that_stalls_once_shows_in_the_percentiles(proxy: Proxy, scenario: Scenario) -> None:
    """A closed loop would have met one slow answer. The calls that were due meanwhile waited all the same."""
    door, stalls = threading.Lock(), iter([0.0] * 50 + [STALL_SECONDS])

    def stalls_once(request: RecommendRequest, honest: Recommend) -> RecommendResponse:
        with door:
            time.sleep(next(stalls, 0.0))
        return honest(request)

    proxy.answers = stalls_once
    ran = await run(mixed(scenario, session=0), address=proxy.address, rate=100, seconds=3)
    assert ran.figures.answered == 300
    assert ran.figures.latency.milliseconds(100) >= 1e3 * STALL_SECONDS
    # Of the hundred calls due during the stall, half waited for half of it or more: a sixth of all.
    assert ran.figures.latency.milliseconds(100 * 5 / 6 + 1) >= 1e3 * STALL_SECONDS / 2
    assert sum(record.latency >= STALL_SECONDS / 2 for record in ran.records) >= 49
    # All of them left, although earlier ones were not answered.
    slow = max(ran.records, key=lambda record: record.latency)
    meanwhile = [record for record in ran.records if slow.sent < record.sent < slow.done - 0.1]
    assert len(meanwhile) >= 50


async def test_a_client_that_stalls_counts_it_as_latency_and_as_lag(scenario: Scenario) -> None:
    stalls = iter([0.0, 0.5])

    def stall(records: list[CallRecord]) -> None:
        time.sleep(next(stalls, 0.0))  # on the event loop that sends

    ran = await run(mixed(scenario, session=0), rate=100, seconds=2, taking=stall)
    late = [record for record in ran.records if record.lag > 0.1]
    assert len(late) >= 35
    assert all(record.latency > record.lag for record in late)
    assert ran.figures.lag.milliseconds(99) > 100
    assert ran.figures.limit == "machine"  # it had the CPU, and slept


async def test_calls_beyond_what_may_wait_are_counted_as_unsent(
    proxy: Proxy, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MAX_IN_FLIGHT", 5)
    release = threading.Event()

    def waits(request: RecommendRequest, honest: Recommend) -> RecommendResponse:
        release.wait()
        return honest(request)

    proxy.answers = waits
    timer = threading.Timer(1.5, release.set)
    timer.start()
    ran = await run(mixed(scenario, session=0), address=proxy.address, rate=50)
    timer.join()
    assert ran.figures.outcomes[CallOutcome.UNSENT] == 45
    assert ran.figures.answered == 5
    assert ran.figures.failed == 45


async def test_a_call_that_takes_too_long_is_an_error(proxy: Proxy, scenario: Scenario) -> None:
    release = threading.Event()

    def waits(request: RecommendRequest, honest: Recommend) -> RecommendResponse:
        release.wait()
        return honest(request)

    proxy.answers = waits
    ran = await run(mixed(scenario, session=0), address=proxy.address, rate=20, seconds=0.5, timeout_seconds=0.2)
    release.set()
    assert ran.figures.errors == {("error", "DEADLINE_EXCEEDED", "CLIENT_TIMEOUT"): 10}


async def test_refusals_are_not_errors(proxy: Proxy, scenario: Scenario) -> None:
    def refuses(request: RecommendRequest, honest: Recommend) -> RecommendResponse:
        raise Refused

    proxy.answers = refuses
    figures = (await run(mixed(scenario, session=0), address=proxy.address)).figures
    assert figures.outcomes == {CallOutcome.REFUSED: 100}
    assert not figures.failed


async def test_a_server_that_is_not_there(scenario: Scenario) -> None:
    """Nor is it for the audit, which says so."""
    ran = await run(scenario, address="127.0.0.1:1", rate=40, seconds=0.5, audit_seconds=0.5)
    assert ran.figures.errors == {("error", "UNAVAILABLE", "NOT_CONNECTED"): 20}
    assert ran.audit.unread == ran.audit.sessions > 0
    assert ran.audit.failed


@pytest.fixture(scope="module")
def storeless(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose Redis is away."""
    folder = tmp_path_factory.mktemp("storeless")
    with serving(settings_for(folder, bundle_dir, redis_url=f"unix://{folder}/nobody.sock")) as running:
        yield f"127.0.0.1:{running.ports.grpc}"


async def test_sessions_without_a_store_are_degraded_not_wrong(storeless: str, scenario: Scenario) -> None:
    ran = await run(mixed(scenario, session=1, steered=0), address=storeless, audit_seconds=0.5)
    counts = Counter((record.kind, record.outcome) for record in ran.records)
    assert counts.keys() == {(CallKind.SESSION, CallOutcome.DEGRADED), (CallKind.APPEND, CallOutcome.ERROR)}
    assert counts.total() == ran.figures.outcomes.total() == 100
    failed_appends = counts[CallKind.APPEND, CallOutcome.ERROR]
    assert ran.figures.errors == {("error", "UNAVAILABLE", "SESSION_STORE_UNAVAILABLE"): failed_appends}
    assert not ran.figures.violations


async def test_a_bug_of_the_harness_is_not_taken_for_an_answer(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("steersman_loadtest.traffic.check", broken)
    with pytest.raises(ZeroDivisionError):
        await run(mixed(scenario, session=0), rate=20, seconds=0.5)
