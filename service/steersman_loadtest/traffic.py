"""The traffic of one client: draws calls from the mix, and checks their answers."""

import random
from collections.abc import Set
from dataclasses import dataclass
from typing import NamedTuple

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import AppendEventsRequest, AppendEventsResponse
from steersman_loadtest.canaries import Canary
from steersman_loadtest.checks import Expectation, check, share
from steersman_loadtest.record import CallKind, ConceptShare, FailedCheck
from steersman_loadtest.scenario import FEATURE_STRENGTHS, Scenario
from steersman_loadtest.users import User, Users

# Strengths of concepts are drawn from between these.
CONCEPT_STRENGTHS = (0.2, 1.0)
DENIED = 20
ALLOWED = 100


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `expected` is set for Recommend, `user` for calls of a session."""

    kind: CallKind
    request: RecommendRequest | AppendEventsRequest
    expected: Expectation | None = None
    user: User | None = None


class CheckResult(NamedTuple):
    """The checks that an answer failed, and the share of a concept's items that it measured."""

    violations: tuple[FailedCheck, ...] = ()
    share: ConceptShare | None = None


class ExpectedHistory(NamedTuple):
    """The history that the server is to use."""

    seen: Set[str]
    """Items of the history."""
    events: tuple[int, int]
    """Least and most events of the history."""
    perhaps: Set[str] = frozenset()
    """Items that may count as seen, or not."""


class Traffic:
    """Draws from a seed. The user of a session's call also depends on which users still wait for answers."""

    def __init__(self, scenario: Scenario, tolerance: float, users: Users, name: str, rng: random.Random) -> None:
        """`tolerance` is that of scores, relative to their scale; `name` begins the ids of requests."""
        self._scenario, self._tolerance, self._users = scenario, tolerance, users
        self._name, self._rng = name, rng
        self._operations, self._values = list(FEATURE_STRENGTHS), list(scenario.values)
        self._shuffled = rng.sample(sorted(scenario.known), len(scenario.known))
        self._calls = 0

    def next(self) -> Call:
        mix, rng = self._scenario.mix, self._rng
        self._calls += 1
        if rng.random() < mix.session:
            return self._session_call()
        steered = rng.random() < mix.steered
        if rng.random() < mix.canary:
            canaries = self._scenario.steered_canaries if steered else self._scenario.plain_canaries
            return self._canary_call(rng.choice(canaries))
        history = rng.choice(self._scenario.histories.item_ids)
        request = RecommendRequest(history=self._scenario.history(history[: rng.randint(1, len(history))]))
        if steered:
            request.controls.append(self._control())
        return self._recommend(request, _past(request), only=self._filter(request))

    def answered(self, call: Call, answer: RecommendResponse | AppendEventsResponse, checked: bool) -> CheckResult:
        """Records what an append acknowledged. Checks the answer if it is to be `checked`."""
        if isinstance(answer, AppendEventsResponse):
            assert call.user
            violations = tuple(call.user.acknowledge(answer))
            return CheckResult(violations) if checked else CheckResult()
        assert call.expected
        if not checked:
            return CheckResult()
        return CheckResult(tuple(check(call.expected, answer)), share(call.expected, answer))

    def done(self, call: Call) -> None:
        """The call has ended, with an answer or without."""
        if call.user:
            self._users.done(call.kind, call.user)

    def _session_call(self) -> Call:
        kind, user = self._users.next()
        if kind is CallKind.APPEND:
            return Call(kind, user.append(), user=user)
        before = user.history[: user.acknowledged]
        request = RecommendRequest(session_id=user.session_id, fallback_history=self._scenario.history(before))
        if self._rng.random() < self._scenario.mix.steered:
            request.controls.append(self._control())
        # A session keeps its latest events alone, a fallback history all; and a session may have events that were not acknowledged.
        past = ExpectedHistory(
            seen=set(before[-self._scenario.info.limits.session_events :]),
            events=(len(before), len(before) + user.pending),
            perhaps=set(user.history[: user.acknowledged + user.pending]),
        )
        return self._recommend(request, past, only=self._filter(request), user=user)

    def _canary_call(self, canary: Canary) -> Call:
        request = RecommendRequest()
        request.CopyFrom(canary.request)
        return self._recommend(request, _past(request), canary=canary)

    def _recommend(
        self,
        request: RecommendRequest,
        past: ExpectedHistory,
        *,
        only: Set[str] | None = None,
        user: User | None = None,
        canary: Canary | None = None,
    ) -> Call:
        """`only` are the items that the filters name, where they name some."""
        request.request_id, request.k = f"{self._name}-{self._calls}", self._scenario.mix.k
        excluded = past.seen | set(request.filters.deny_item_ids)
        expected = Expectation(
            request=request,
            bundle_version=self._scenario.info.bundle_version,
            tolerance=self._tolerance,
            seen=past.seen,
            eligible=self._scenario.eligible(excluded, past.perhaps, only),
            events=past.events,
            only=only,
            canary=canary,
        )
        kind = CallKind.SESSION if user else CallKind.STEERED if request.controls else CallKind.PLAIN
        return Call(kind, request, expected, user)

    def _control(self) -> Control:
        rng = self._rng
        if rng.random() < self._scenario.mix.concepts:
            concept, strength = rng.choice(self._scenario.concepts), rng.uniform(*CONCEPT_STRENGTHS)
            return Control(concept=concept, operation=OPERATION_ADD, strength=strength)
        return self._scenario.feature_control(rng.choice(self._scenario.features), rng.choice(self._operations))

    def _filter(self, request: RecommendRequest) -> Set[str] | None:
        """Adds a filter to some requests: denied popular items, allowed items, or an attribute value. Returns the items that it names."""
        rng, filters = self._rng, request.filters
        if rng.random() >= self._scenario.mix.filtered:
            return None
        kind = rng.choice(("deny", "allow", "attribute") if self._values else ("deny", "allow"))
        if kind == "deny":
            popular = self._scenario.popular
            filters.deny_item_ids.extend(rng.sample(popular, min(DENIED, len(popular))))
            return None
        if kind == "allow":
            start = rng.randrange(len(self._shuffled))
            filters.allow_item_ids.extend(self._shuffled[start : start + ALLOWED])
            return set(filters.allow_item_ids)
        value = rng.choice(self._values)
        filters.CopyFrom(value.filters())
        return self._scenario.values[value]


def _past(request: RecommendRequest) -> ExpectedHistory:
    history = request.history
    total = history.events_before + len(history.item_ids)
    return ExpectedHistory(set(history.item_ids), (total, total))
