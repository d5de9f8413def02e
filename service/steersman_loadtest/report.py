"""The report of a load test: as JSON with stable names, and as tables."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from steersman_loadtest.fleet import SendOptions
from steersman_loadtest.harness import LoadTestResult
from steersman_loadtest.printing import print_line, print_table
from steersman_loadtest.record import CallOutcome
from steersman_loadtest.run_statistics import LIMITS, RunStatistics
from steersman_loadtest.scenario import Scenario

# Incremented when a name is removed or changes its meaning.
SCHEMA = 1


def as_json(scenario: Scenario, sending: SendOptions, results: LoadTestResult) -> dict[str, Any]:
    """`runs` are in order; the last one is the main run."""
    info, histories, plan, search, audit = (
        scenario.info,
        scenario.histories,
        results.plan,
        results.search,
        results.audit,
    )
    return {
        "schema": SCHEMA,
        "passed": results.passed,
        "address": scenario.address,
        "server": {
            "version": info.server_version,
            "bundle": info.bundle_version,
            "data": info.data,
            "backend": info.backend,
            "device": info.device,
            "items": info.shapes.items,
        },
        "histories": {"source": histories.source, "real": histories.real, "users": len(histories.item_ids)},
        "mix": asdict(scenario.mix),
        "sending": asdict(sending),
        "canaries": {"plain": len(scenario.plain_canaries), "steered": len(scenario.steered_canaries)},
        "known_attribute_values": len(scenario.values),
        "search": search
        and {
            "rate": search.rate,
            "p99_ms": plan.p99_ms,
            "hold_seconds": plan.search and plan.search.hold_seconds,
            "probes": [probe._asdict() for probe in search.probes],
        },
        "runs": [run.as_json() for run in results.runs],
        "audit": audit and audit._asdict(),
    }


def print_report(scenario: Scenario, sending: SendOptions, results: LoadTestResult) -> None:
    """Tables of the main run, and the conditions of the test."""
    main = results.main
    _print_latencies(main)
    if main.steering:
        _print_steering(main)
    for line in (*_conditions(scenario, sending), *_outcomes(main), *_search(results), *_audit(results)):
        print_line(line)
    for run in results.runs:
        for example in run.examples:
            print_line(f"  {run.name}: {example}")


def _print_latencies(figures: RunStatistics) -> None:
    names = ("mean", "p50", "p90", "p99", "p99_9", "max")
    print_line(
        f"{figures.name} at {figures.rate:.1f}/s for {figures.seconds:.0f} s: milliseconds from when calls were due"
    )
    rows = []
    for name, times in (("all", figures.latency), *figures.latency_by_kind.items()):
        summary = times.summary()
        if times.count:
            rows.append((str(name), str(times.count), *(f"{summary[name]:.1f}" for name in names)))
    columns = ("calls", "answered", *(name.replace("_", ".") for name in names))
    print_table(columns, rows)


def _print_steering(figures: RunStatistics) -> None:
    columns = ("concept at strength 1", "answers", "its share of the list without", "and with")
    rows = [
        (steered.concept, str(steered.answers), f"{steered.plain:.2f}", f"{steered.steered:.2f}")
        for steered in figures.steering
    ]
    print_table(columns, rows)


def _conditions(scenario: Scenario, sending: SendOptions) -> Iterator[str]:
    info, mix, histories = scenario.info, scenario.mix, scenario.histories
    yield (
        f"Server: {scenario.address}, bundle {info.bundle_version[:12]} ({info.data}), {info.shapes.items} items, "
        f"{info.backend} on {info.device}."
    )
    real = "" if histories.real else " These are no real histories: give --histories FILE."
    yield f"Histories: {len(histories.item_ids)} users, {histories.source}.{real}"
    yield (
        f"Mix: {mix.session:.0%} of the calls are of sessions; of Recommend calls {mix.steered:.0%} are steered, "
        f"{mix.filtered:.0%} filtered, of those without a session {mix.canary:.0%} are canaries; k = {mix.k}."
    )
    arrivals = "at random (Poisson)" if sending.poisson else "evenly spaced"
    yield f"Arrivals: {arrivals}, seed {sending.seed}. Checked: {sending.checked:.0%} of the answers."
    if sending.checked and not scenario.values:
        yield "No attribute value was found whose items an answer can hold: attribute filters were not tried."


def _outcomes(figures: RunStatistics) -> Iterator[str]:
    outcomes = figures.outcomes
    yield (
        f"Sent {figures.sent}, answered {figures.answered} ({figures.answered_rate:.1f}/s), of these degraded "
        f"{outcomes[CallOutcome.DEGRADED]}; refused {outcomes[CallOutcome.REFUSED]}, errors {figures.failed}."
    )
    for (outcome, code, reason), count in figures.errors.most_common():
        yield f"  {outcome}: {code} {reason}: {count}"
    for outcome, trouble in figures.troubles.items():
        yield f"  {outcome} from {trouble.first:.2f} s to {trouble.last:.2f} s ({trouble.last - trouble.first:.2f} s)"
    yield f"Violations: {', '.join(f'{name} {n}' for name, n in figures.violations.most_common()) or 'none'}."
    shares = ", ".join(f"{share:.2f}" for share in figures.cpu_shares)
    lag = figures.lag
    yield (
        f"Clients: {len(figures.usages)} process(es) with {shares} of a CPU core; calls left late by p50 "
        f"{lag.milliseconds(50):.1f} ms, p99 {lag.milliseconds(99):.1f} ms, at most {lag.milliseconds(100):.1f} ms: "
        f"{LIMITS[figures.limit]}."
    )


def _search(results: LoadTestResult) -> Iterator[str]:
    if results.search and results.plan.search:
        what = f"held for {results.plan.search.hold_seconds:.0f} s, no error, p99 below {results.plan.p99_ms:g} ms"
        found = results.search
        yield (
            f"Saturating rate: {found.rate:.1f}/s ({what})." if found.rate else f"No rate was {what}: {found.why_not}."
        )


def _audit(results: LoadTestResult) -> Iterator[str]:
    if audit := results.audit:
        yield (
            f"Audit: {audit.sessions} sessions, {audit.acknowledged} acknowledged events, lost {audit.lost}; sessions "
            f"with other events {audit.wrong}, unread {audit.unread}; answers by id and by history compared "
            f"{audit.compared}, different {audit.different}."
        )
