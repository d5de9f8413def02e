"""Figures of made-up records."""

from pathlib import Path

import pytest

from steersman_loadtest.checks import Check
from steersman_loadtest.harness import LoadTestResult, Plan, why_not_held
from steersman_loadtest.plot import plot
from steersman_loadtest.record import CallKind, CallOutcome, CallRecord, ConceptShare, FailedCheck
from steersman_loadtest.run_statistics import RunStatistics, percentiles
from steersman_loadtest.sender import Usage


def call(
    due: float, latency: float = 0.01, outcome: CallOutcome = CallOutcome.OK, lag: float = 0.0, **more: object
) -> CallRecord:
    return CallRecord(CallKind.PLAIN, due, due + lag, due + latency, outcome, **more)  # type: ignore[arg-type]


def figures(*records: CallRecord, cpu: float = 0.1, seconds: float = 10.0) -> RunStatistics:
    made = RunStatistics("made up", len(records) / seconds, seconds)
    made.take(records)
    made.finish([Usage(cpu * seconds, seconds), Usage(0.0, seconds)])
    return made


def test_latency_counts_from_when_a_call_was_due() -> None:
    assert call(1.0, latency=0.5, lag=0.4).latency == pytest.approx(0.5)
    assert call(1.0, latency=0.5, lag=0.4).lag == pytest.approx(0.4)
    early = call(1.0, latency=0.5, lag=-0.0004)
    assert early.latency == pytest.approx(0.5004)
    assert early.lag == 0


def test_percentiles_are_those_of_the_answers() -> None:
    records = [call(n / 100, latency=(n + 1) / 1000) for n in range(1000)]
    latency = figures(*records, call(5, latency=100, outcome=CallOutcome.ERROR)).latency
    for percentile, milliseconds in ((50, 500), (90, 900), (99, 990), (99.9, 999), (100, 1000)):
        assert latency.milliseconds(percentile) == pytest.approx(milliseconds, rel=1e-3)
    assert latency.summary()["mean"] == pytest.approx(500.5, rel=1e-3)
    assert figures().latency.summary() == dict.fromkeys(("count", "mean", "p50", "p90", "p99", "p99_9", "max"), 0)


def test_percentiles_go_as_far_as_the_calls_can_tell() -> None:
    for count in (0, 1, 100, 10_000):
        found = list(percentiles(count))
        assert found == sorted(set(found))
        assert found[-1] == 100
        assert all(100 - percentile >= 100 / max(1, count) for percentile in found[:-1])
    assert max(list(percentiles(10_000))[:-1]) > 99.98


def test_outcomes_second_by_second() -> None:
    made = figures(
        call(0.1),
        call(0.9, latency=0.2),
        call(1.5, outcome=CallOutcome.DEGRADED),
        call(2.0, latency=1.5, outcome=CallOutcome.ERROR, code="UNAVAILABLE", reason="CONNECTION_LOST"),
        call(3.2, outcome=CallOutcome.ERROR, code="UNAVAILABLE", reason="CONNECTION_LOST"),
        call(3.4, outcome=CallOutcome.REFUSED, code="RESOURCE_EXHAUSTED", reason="QUEUE_FULL"),
    )
    assert [
        (second.sent, second.answered, second.degraded, second.refused, second.errors) for second in made.series
    ] == [
        (2, 1, 0, 0, 0),
        (1, 2, 1, 0, 0),
        (1, 0, 0, 0, 0),
        (2, 0, 0, 1, 2),
    ]
    assert [second.max_ms for second in made.series] == pytest.approx([10, 200, 0, 0])
    assert (made.sent, made.answered, made.failed) == (6, 3, 2)
    assert made.answered_rate == pytest.approx(0.3)
    assert made.errors["error", "UNAVAILABLE", "CONNECTION_LOST"] == 2
    assert made.troubles[CallOutcome.ERROR] == pytest.approx((3.21, 3.5))
    assert set(made.troubles) == {CallOutcome.DEGRADED, CallOutcome.ERROR, CallOutcome.REFUSED}


def test_steering_is_judged_on_average_over_enough_answers() -> None:
    up, down = ConceptShare("a", 0.2, 0.3), ConceptShare("b", 0.2, 0.1)
    few = figures(*[call(1, share=down)] * 9)
    assert not few.violations
    many = figures(*[call(1, share=share) for share in (up, down) for _ in range(10)])
    assert many.violations == {Check.STEERING: 1}
    assert "b: 0.200 to 0.100" in many.examples[0]


def test_examples_of_violations_are_bounded() -> None:
    made = figures(*[call(1.25, violations=(FailedCheck(Check.COUNT, "9 items"),))] * 1000)
    assert made.violations == {Check.COUNT: 1000}
    assert len(made.examples) == 20
    assert made.examples[0] == "count: plain call due at 1.250 s: 9 items"


def test_it_says_what_kept_calls_from_leaving() -> None:
    on_time = [call(n / 10, lag=0.002) for n in range(100)]
    late = [call(n / 10, lag=0.05, latency=0.06) for n in range(100)]
    assert figures(*on_time, cpu=1.0).limit == "none"
    assert figures(*late, cpu=0.9).limit == "client"
    assert figures(*late, cpu=0.3).limit == "machine"


def test_why_a_rate_is_not_held() -> None:
    assert why_not_held(figures(*[call(1)] * 100), 100) == ""
    assert why_not_held(figures(*[call(1, latency=0.2)] * 100), 100) == "p99 200 ms"
    wrong = call(1, violations=(FailedCheck(Check.COUNT, ""),))
    failed = [call(1, outcome=outcome) for outcome in (CallOutcome.ERROR, CallOutcome.UNSENT, CallOutcome.REFUSED)]
    assert why_not_held(figures(wrong, *failed), 100) == "2 errors, 1 refused, 1 violations"
    behind = [call(1, lag=0.2, latency=0.3)] * 100
    assert why_not_held(figures(*behind, cpu=0.9), 100).startswith("p99 300 ms, the client was the limit")


def test_a_test_passes_if_nothing_failed_in_the_last_run_and_nothing_was_violated_in_any() -> None:
    good, refused = figures(call(1)), figures(call(1, outcome=CallOutcome.REFUSED))
    failed, wrong = (
        figures(call(1, outcome=CallOutcome.ERROR)),
        figures(call(1, violations=(FailedCheck("count", ""),))),
    )
    for runs, passed in (([failed, good], True), ([refused], True), ([good, failed], False), ([wrong, good], False)):
        assert LoadTestResult(Plan(), runs).passed is passed


def test_the_picture(tmp_path: Path) -> None:
    made = figures(*[call(n / 100, latency=0.01 + n / 1e5) for n in range(500)], call(3, outcome=CallOutcome.ERROR))
    for name, magic in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
        plot(made, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(magic)
    plot(figures(), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").exists()
