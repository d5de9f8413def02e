"""Runs a load test: warms up, runs at a rate or searches for one, audits."""

import time
from dataclasses import dataclass, field

from steersman_loadtest.audit import Audit
from steersman_loadtest.display import LoadTestDisplay
from steersman_loadtest.fleet import HEAD_START_SECONDS, Fleet
from steersman_loadtest.rate_search import RateSearch, RateSearchResult
from steersman_loadtest.record import CallOutcome
from steersman_loadtest.run_statistics import LIMITS, RunStatistics

# Rounds of warming up, each of which may add a client process.
WARM_UP_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """The rates, lengths and limits of a test."""

    rate: float = 100.0
    """Calls a second; with a search, the first rate that is tried."""
    seconds: float = 30.0
    search: RateSearch | None = None
    p99_ms: float = 100.0
    """A rate is held if p99 stays below this."""
    then: float = 0.0
    """After a search, a run at this part of the saturating rate; 0 for none."""
    processes: int = 1
    most_processes: int = 1
    audit_seconds: float = 60.0
    """Limit of the audit; 0 for none."""


@dataclass
class LoadTestResult:
    """The results of all runs, of the search and of the audit."""

    plan: Plan
    runs: list[RunStatistics] = field(default_factory=list)
    """In order, including those of a search."""
    search: RateSearchResult | None = None
    audit: Audit | None = None
    processes: int = 0

    @property
    def main(self) -> RunStatistics:
        """The last run."""
        return self.runs[-1]

    @property
    def passed(self) -> bool:
        """No call failed in the main run, no check failed in any run, no acknowledged event was lost."""
        violated = any(run.violations for run in self.runs)
        nothing_found = self.search is not None and self.search.rate is None
        return not (self.main.failed or violated or nothing_found or (self.audit and self.audit.failed))


class Harness:
    def __init__(self, fleet: Fleet, plan: Plan, display: LoadTestDisplay) -> None:
        self._fleet, self._plan, self._display = fleet, plan, display
        self._results = LoadTestResult(plan)

    def test(self) -> LoadTestResult:
        """Raises LoadTestError if it cannot go on."""
        plan, results = self._plan, self._results
        self._fleet.grow(plan.processes)
        if plan.search:
            results.search = plan.search.find(self._tried)
            if results.search.rate and plan.then:
                self._run(f"{plan.then:.0%} of saturation", plan.then * results.search.rate, plan.seconds)
        else:
            self._warm_up()
            self._run("run", plan.rate, plan.seconds)
        if plan.audit_seconds:
            self._display.says("audit of the sessions ...")
            results.audit = self._fleet.audit(plan.audit_seconds)
        results.processes = self._fleet.size
        return results

    def _warm_up(self) -> None:
        """Opens connections, fills caches, and finds out whether the clients can keep up."""
        while self._grown(self._run("warm-up", self._plan.rate, WARM_UP_SECONDS)):
            pass

    def _tried(self, rate: float, seconds: float) -> str:
        assert self._plan.search
        name = "hold" if seconds == self._plan.search.hold_seconds else "probe"
        while self._grown(figures := self._run(name, rate, seconds)):
            pass
        return why_not_held(figures, self._plan.p99_ms)

    def _grown(self, figures: RunStatistics) -> bool:
        """Adds a client process if the clients were the limit, up to `most_processes`."""
        if figures.limit != "client" or self._fleet.size >= self._plan.most_processes:
            return False
        self._display.says(f"{self._fleet.size} client process(es) could not keep up: one more")
        self._fleet.grow()
        return True

    def _run(self, name: str, rate: float, seconds: float) -> RunStatistics:
        figures = RunStatistics(name, rate, seconds)
        self._display.began(figures)
        figures.began_unix_seconds = time.time() + HEAD_START_SECONDS
        figures.finish(self._fleet.run(rate, seconds, figures.take, lambda at: self._display.goes(figures, at)))
        self._display.ended(figures)
        self._results.runs.append(figures)
        return figures


def why_not_held(figures: RunStatistics, p99_ms: float) -> str:
    """Why the rate of a run was not held; empty if it was."""
    p99 = figures.latency.milliseconds(99)
    reasons = {
        f"{figures.failed} errors": figures.failed > 0,
        f"{figures.outcomes[CallOutcome.REFUSED]} refused": figures.outcomes[CallOutcome.REFUSED] > 0,
        f"{figures.violations.total()} violations": figures.violations.total() > 0,
        f"p99 {p99:.0f} ms": p99 >= p99_ms,
    }
    why = [reason for reason, holds in reasons.items() if holds]
    if why and figures.limit != "none":
        why.append(LIMITS[figures.limit])
    return ", ".join(why)
