"""Statistics of one run, from the records of its calls."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple

from hdrh.histogram import HdrHistogram

from steersman_loadtest.checks import Check
from steersman_loadtest.record import CallKind, CallOutcome, CallRecord, ConceptShare
from steersman_loadtest.sender import Usage

# Histograms count microseconds, up to an hour, to three digits.
MOST_MICROSECONDS = 3_600_000_000
DIGITS = 3
MAX_EXAMPLES = 20
# Calls leave late if 1% of them leave later than this;
LATE_SECONDS = 0.010
# the clients are the cause if one of them used this share of a CPU core.
BUSY = 0.85
# Least number of answers by which a concept's effect is checked.
LEAST_SHARES = 10

Limit = Literal["none", "client", "machine"]
LIMITS: dict[Limit, str] = {
    "none": "calls left on time",
    "client": "the client was the limit: its processes could not send on time",
    "machine": "the machine was the limit: it gave the client no CPU to send on time",
}


class LatencyHistogram:
    """A histogram of durations."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, MOST_MICROSECONDS, DIGITS)

    def add(self, seconds: float) -> None:
        self._histogram.record_value(min(MOST_MICROSECONDS, max(1, round(1e6 * seconds))))

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    def milliseconds(self, percentile: float) -> float:
        """At a percentile from 0 to 100; 0 if the histogram is empty."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1e3 if self.count else 0.0

    def summary(self) -> dict[str, float]:
        """In milliseconds."""
        named = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "max": 100}
        mean = self._histogram.get_mean_value() / 1e3 if self.count else 0.0
        return {"count": self.count, "mean": mean, **{name: self.milliseconds(p) for name, p in named.items()}}


@dataclass
class SecondCounts:
    """One second of a run."""

    sent: int = 0
    """Calls that were due."""
    answered: int = 0
    """Answers received, including degraded ones."""
    degraded: int = 0
    refused: int = 0
    errors: int = 0
    """Other errors, and calls that were not sent."""
    max_ms: float = 0.0
    """Latency of the slowest answer received."""


class Trouble(NamedTuple):
    """The first and the last call with an outcome, by when they ended, in seconds since the run began."""

    first: float
    last: float


class SteeringEffect(NamedTuple):
    """Effect of steering a concept at strength 1: mean share of its items without and with it, 0 to 1."""

    concept: str
    answers: int
    plain: float
    steered: float

    @property
    def failed(self) -> bool:
        """Whether the share did not rise, over enough answers."""
        return self.answers >= LEAST_SHARES and self.steered <= self.plain


class RunStatistics:
    """Takes the records of a run's calls, in any order."""

    def __init__(self, name: str, rate: float, seconds: float) -> None:
        self.name, self.rate, self.seconds = name, rate, seconds
        self.latency, self.lag = LatencyHistogram(), LatencyHistogram()
        """Of answers, from when calls were due; and by how much calls left late."""
        self.latency_by_kind = {kind: LatencyHistogram() for kind in CallKind}
        self.outcomes: Counter[CallOutcome] = Counter()
        self.errors: Counter[tuple[str, str, str]] = Counter()
        """By outcome, code and reason."""
        self.violations: Counter[str] = Counter()
        self.examples: list[str] = []
        """The first failed checks."""
        self.series: list[SecondCounts] = []
        self.troubles: dict[CallOutcome, Trouble] = {}
        """By outcome, except `ok`."""
        self.began_unix_seconds = 0.0
        """Wall-clock time of the start, to relate the run to other events."""
        self.usages: Sequence[Usage] = ()
        self._shares: dict[str, list[ConceptShare]] = defaultdict(list)

    def take(self, records: Iterable[CallRecord]) -> None:
        for record in records:
            self._take(record)

    def finish(self, usages: Sequence[Usage]) -> None:
        """The run is over; `usages` are those of its clients."""
        self.usages = usages
        for steered in self.steering:
            if steered.failed:
                detail = f"{steered.concept}: {steered.plain:.3f} to {steered.steered:.3f} in {steered.answers} answers"
                self._violated(Check.STEERING, detail)

    @property
    def sent(self) -> int:
        """Calls that were due, sent or not."""
        return self.outcomes.total()

    @property
    def answered(self) -> int:
        return self.outcomes[CallOutcome.OK] + self.outcomes[CallOutcome.DEGRADED]

    @property
    def failed(self) -> int:
        """Calls that were neither answered nor refused."""
        return self.outcomes[CallOutcome.ERROR] + self.outcomes[CallOutcome.UNSENT]

    @property
    def answered_rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def steering(self) -> list[SteeringEffect]:
        return [
            SteeringEffect(concept, len(shares), fmean(s.plain for s in shares), fmean(s.steered for s in shares))
            for concept, shares in sorted(self._shares.items())
        ]

    @property
    def cpu_shares(self) -> list[float]:
        """Of a CPU core, that each client used."""
        return [usage.cpu_seconds / usage.wall_seconds for usage in self.usages]

    @property
    def limit(self) -> Limit:
        """Why calls left late: the client was busy, or the machine gave it no CPU. `none` if they left on time."""
        if self.lag.milliseconds(99) <= 1e3 * LATE_SECONDS:
            return "none"
        return "client" if max(self.cpu_shares, default=0.0) >= BUSY else "machine"

    def as_json(self) -> dict[str, Any]:
        """Times in milliseconds where the name says so, else in seconds."""
        return {
            "name": self.name,
            "rate": self.rate,
            "seconds": self.seconds,
            "began_unix_s": self.began_unix_seconds,
            "sent": self.sent,
            "answered": self.answered,
            "answered_per_second": self.answered_rate,
            "degraded": self.outcomes[CallOutcome.DEGRADED],
            "refused": self.outcomes[CallOutcome.REFUSED],
            "errors": self.failed,
            "errors_by_reason": [
                {"outcome": outcome, "code": code, "reason": reason, "count": count}
                for (outcome, code, reason), count in self.errors.most_common()
            ],
            "violations": dict(self.violations),
            "violation_examples": self.examples,
            "latency_ms": self.latency.summary(),
            "latency_ms_by_kind": {kind.value: times.summary() for kind, times in self.latency_by_kind.items()},
            "latency_ms_by_percentile": [[p, self.latency.milliseconds(p)] for p in percentiles(self.latency.count)],
            "steering": [steered._asdict() for steered in self.steering],
            "trouble_s": {outcome.value: trouble._asdict() for outcome, trouble in self.troubles.items()},
            "client": {
                "limit": self.limit,
                "processes": len(self.usages),
                "cpu_shares": self.cpu_shares,
                "cpu_us_per_call": 1e6 * sum(usage.cpu_seconds for usage in self.usages) / max(1, self.sent),
                "send_lag_ms": self.lag.summary(),
            },
            "series": [{"second": second, **asdict(counts)} for second, counts in enumerate(self.series)],
        }

    def _take(self, record: CallRecord) -> None:
        self.outcomes[record.outcome] += 1
        self.lag.add(record.lag)
        self._second(record.due).sent += 1
        second = self._second(record.done)
        if record.outcome in (CallOutcome.OK, CallOutcome.DEGRADED):
            self.latency.add(record.latency)
            self.latency_by_kind[record.kind].add(record.latency)
            second.answered += 1
            second.max_ms = max(second.max_ms, 1e3 * record.latency)
        else:
            self.errors[record.outcome, record.code, record.reason] += 1
            second.refused += record.outcome is CallOutcome.REFUSED
            second.errors += record.outcome is not CallOutcome.REFUSED
        second.degraded += record.outcome is CallOutcome.DEGRADED
        if record.outcome is not CallOutcome.OK:
            self._troubled(record.outcome, record.done)
        for violation in record.violations:
            self._violated(violation.check, f"{record.kind} call due at {record.due:.3f} s: {violation.detail}")
        if record.share:
            self._shares[record.share.concept].append(record.share)

    def _second(self, at: float) -> SecondCounts:
        while len(self.series) <= int(at):
            self.series.append(SecondCounts())
        return self.series[int(at)]

    def _troubled(self, outcome: CallOutcome, at: float) -> None:
        before = self.troubles.get(outcome, Trouble(at, at))
        self.troubles[outcome] = Trouble(min(before.first, at), max(before.last, at))

    def _violated(self, check: str, detail: str) -> None:
        self.violations[check] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{check}: {detail}")


def percentiles(count: int) -> Iterator[float]:
    """From 0 to 100, ten for each halving of the distance to 100, as far as `count` values resolve them."""
    left = 100.0
    while left > 100 / max(1, count):
        yield 100 - left
        left *= 0.5**0.1
    yield 100.0
