"""Checks of every answer."""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from enum import StrEnum

from steersman.v1.recommendation_service_pb2 import RecommendRequest, RecommendResponse
from steersman_loadtest.canaries import Canary, difference, ranked
from steersman_loadtest.record import ConceptShare, FailedCheck


class Check(StrEnum):
    """What each checks."""

    REQUEST = "request"
    """The answer echoes the request's id."""
    BUNDLE = "bundle"
    """The bundle is the one that served when the run was prepared."""
    COUNT = "count"
    """As many items as wanted, or all that are eligible."""
    ELIGIBLE = "eligible"
    """As many items are eligible as the filters and the history leave."""
    REPEATED = "repeated"
    """No item stands twice in an answer."""
    ORDER = "order"
    """Scores fall."""
    SEEN = "seen"
    """No item of the history comes back."""
    DENIED = "denied"
    """No denied item comes back."""
    ALLOWED = "allowed"
    """Where items are named, no other comes back."""
    ATTRIBUTE = "attribute"
    """Where an attribute value is asked for, no item without it comes back."""
    CONTROLS = "controls"
    """The controls that were applied are those of the request."""
    HISTORY = "history"
    """The history that was used is as long as the one that was sent or acknowledged."""
    DEGRADED = "degraded"
    """A call that needs no session is not degraded."""
    PLAIN_CANARY = "plain canary"
    """A call without controls gets the same answer as without load: other calls' edits do not affect it."""
    STEERED_CANARY = "steered canary"
    """A call with a control gets the same answer as without load."""
    STEERING = "steering"
    """Steering a concept raises the share of its items, on average over the run."""
    APPEND = "append"
    """Every event that is sent counts, and counts once."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The correct answer to a Recommend."""

    request: RecommendRequest
    bundle_version: str
    tolerance: float
    """Of scores, relative to their scale."""
    seen: Set[str]
    """Items of the history."""
    eligible: tuple[int, int]
    """Least and most items that may be eligible."""
    events: tuple[int, int]
    """Least and most events that the history may have."""
    only: Set[str] | None = None
    """The items that an allow list or an attribute filter names, if the request has one."""
    canary: Canary | None = None


def check(expected: Expectation, answer: RecommendResponse) -> Iterator[FailedCheck]:
    """The checks that `answer` fails."""
    yield from _check_list(expected, answer)
    yield from _check_filters(expected, {item.item_id for item in answer.items})
    request, use = expected.request, answer.history_use
    if answer.request_id != request.request_id:
        yield FailedCheck(Check.REQUEST, f"id {answer.request_id!r} for {request.request_id!r}")
    if answer.bundle_version != expected.bundle_version:
        yield FailedCheck(Check.BUNDLE, f"{answer.bundle_version} for {expected.bundle_version}")
    if [applied.control for applied in answer.applied_controls] != list(request.controls):
        yield FailedCheck(Check.CONTROLS, f"{len(answer.applied_controls)} applied, {len(request.controls)} sent")
    if not expected.events[0] <= use.total_events <= expected.events[1]:
        yield FailedCheck(Check.HISTORY, f"{use.total_events} events, not {_range(expected.events)}")
    if answer.degradations and not request.session_id:
        yield FailedCheck(Check.DEGRADED, "a call without a session")
    if expected.canary and (why := difference(expected.canary.reference, ranked(answer.items), expected.tolerance)):
        yield FailedCheck(Check.STEERED_CANARY if request.controls else Check.PLAIN_CANARY, why)


def _check_list(expected: Expectation, answer: RecommendResponse) -> Iterator[FailedCheck]:
    items, eligible = answer.items, answer.eligible_items
    if len(items) != min(expected.request.k, eligible):
        yield FailedCheck(Check.COUNT, f"{len(items)} items of {eligible} eligible, {expected.request.k} wanted")
    if not expected.eligible[0] <= eligible <= expected.eligible[1]:
        yield FailedCheck(Check.ELIGIBLE, f"{eligible} items, not {_range(expected.eligible)}")
    if len({item.item_id for item in items}) != len(items):
        yield FailedCheck(Check.REPEATED, ", ".join(item.item_id for item in items))
    scores = [item.score for item in items]
    if scores != sorted(scores, reverse=True):
        yield FailedCheck(Check.ORDER, ", ".join(f"{score:.7g}" for score in scores))


def _check_filters(expected: Expectation, got: Set[str]) -> Iterator[FailedCheck]:
    filters = expected.request.filters
    wrong = {Check.SEEN: got & expected.seen, Check.DENIED: got & set(filters.deny_item_ids)}
    if expected.only is not None:
        wrong[Check.ATTRIBUTE if filters.attributes else Check.ALLOWED] = got - expected.only
    for name, item_ids in wrong.items():
        if item_ids:
            yield FailedCheck(name, f"item {', '.join(sorted(item_ids))}")


def share(expected: Expectation, answer: RecommendResponse) -> ConceptShare | None:
    """The share of a concept's items without and with steering; None if the call does not measure it."""
    canary = expected.canary
    if canary is None or not canary.concept:
        return None
    return ConceptShare(canary.concept, canary.plain_share, canary.share([item.item_id for item in answer.items]))


def _range(limits: tuple[int, int]) -> str:
    return str(limits[0]) if limits[0] == limits[1] else f"{limits[0]} to {limits[1]}"
