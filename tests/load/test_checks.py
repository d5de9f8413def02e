"""Wrong answers are counted as what they are. The server is real; the proxy before it lies."""

import itertools
from collections.abc import Callable

import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import DEGRADATION_SESSION_UNAVAILABLE, RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import AppendEventsRequest, AppendEventsResponse
from steersman_loadtest.canaries import RankedItem, difference
from steersman_loadtest.checks import Check
from steersman_loadtest.record import CallKind, CallOutcome
from steersman_loadtest.scenario import Scenario
from tests.load.proxy import Append, Proxy, Recommend, Refused
from tests.load.running import mixed, run


def dishonest(change: Callable[[RecommendRequest, RecommendResponse], None]) -> Callable[..., RecommendResponse]:
    """An answer with a change."""

    def answers(request: RecommendRequest, honest: Recommend) -> RecommendResponse:
        answer = honest(request)
        change(request, answer)
        return answer

    return answers


def drop_the_last(request: RecommendRequest, answer: RecommendResponse) -> None:
    del answer.items[-1:]


def return_a_seen_item(request: RecommendRequest, answer: RecommendResponse) -> None:
    answer.items[-1].item_id = (request.history if not request.session_id else request.fallback_history).item_ids[-1]


def return_a_denied_item(request: RecommendRequest, answer: RecommendResponse) -> None:
    if answer.items and request.filters.deny_item_ids:
        seen = (*request.history.item_ids, *request.fallback_history.item_ids)
        answer.items[-1].item_id = next(i for i in request.filters.deny_item_ids if i not in seen)


def return_a_stranger(request: RecommendRequest, answer: RecommendResponse) -> None:
    if answer.items and (request.filters.allow_item_ids or request.filters.attributes):
        answer.items[-1].item_id = "nobody"


def repeat_an_item(request: RecommendRequest, answer: RecommendResponse) -> None:
    answer.items[-1].item_id = answer.items[0].item_id


def turn_around(request: RecommendRequest, answer: RecommendResponse) -> None:
    items = list(reversed(answer.items))
    del answer.items[:]
    answer.items.extend(items)


def answer_to_another(request: RecommendRequest, answer: RecommendResponse) -> None:
    answer.request_id = "another"


def miscount(request: RecommendRequest, answer: RecommendResponse) -> None:
    answer.eligible_items += 1


def change_the_bundle(request: RecommendRequest, answer: RecommendResponse) -> None:
    answer.bundle_version = "another"


def forget_controls(request: RecommendRequest, answer: RecommendResponse) -> None:
    del answer.applied_controls[:]


def shorten_the_history(request: RecommendRequest, answer: RecommendResponse) -> None:
    answer.history_use.total_events -= 1


def degrade(request: RecommendRequest, answer: RecommendResponse) -> None:
    answer.degradations.append(DEGRADATION_SESSION_UNAVAILABLE)


def shift_scores(request: RecommendRequest, answer: RecommendResponse) -> None:
    for item in answer.items:
        item.score += 0.001


async def test_an_honest_server_violates_nothing(scenario: Scenario) -> None:
    ran = await run(mixed(scenario, filtered=0.5, canary=0.3), seconds=2.0)
    assert not ran.figures.examples
    assert ran.figures.sent == ran.figures.answered == 200
    assert {record.kind for record in ran.records} == set(CallKind)
    assert ran.audit.sessions > 5
    assert ran.audit.compared
    assert ran.audit.acknowledged > ran.audit.sessions
    assert not ran.audit.failed


@pytest.mark.parametrize(
    ("change", "violated"),
    [
        (drop_the_last, (Check.COUNT,)),
        (return_a_seen_item, (Check.SEEN,)),
        (return_a_denied_item, (Check.DENIED,)),
        (return_a_stranger, (Check.ALLOWED, Check.ATTRIBUTE)),
        (repeat_an_item, (Check.REPEATED,)),
        (turn_around, (Check.ORDER,)),
        (answer_to_another, (Check.REQUEST,)),
        (miscount, (Check.ELIGIBLE,)),
        (change_the_bundle, (Check.BUNDLE,)),
        (forget_controls, (Check.CONTROLS,)),
        (shorten_the_history, (Check.HISTORY,)),
        (degrade, (Check.DEGRADED,)),
        (shift_scores, (Check.PLAIN_CANARY, Check.STEERED_CANARY)),
    ],
)
async def test_a_wrong_answer_is_counted(
    proxy: Proxy,
    scenario: Scenario,
    change: Callable[[RecommendRequest, RecommendResponse], None],
    violated: tuple[Check, ...],
) -> None:
    """One in three of the answers that the change can spoil: a server is not wrong only if it always is."""
    other = mixed(scenario, filtered=0.5, canary=0.5)
    turns = itertools.count()

    def sometimes(request: RecommendRequest, answer: RecommendResponse) -> None:
        spoilt = RecommendResponse.FromString(answer.SerializeToString())
        change(request, spoilt)
        if spoilt != answer and next(turns) % 3 == 0:
            answer.CopyFrom(spoilt)

    proxy.answers = dishonest(sometimes)
    ran = await run(other, address=proxy.address, rate=240, seconds=1.0)
    for check in violated:
        assert ran.figures.violations[check]
        assert any(example.startswith(check) for example in ran.figures.examples) or len(ran.figures.examples) == 20
    assert ran.figures.answered == ran.figures.sent


async def test_edits_that_are_felt_by_others(proxy: Proxy, scenario: Scenario) -> None:
    """Every row is steered by what one asked for, and the answer hides it."""
    other = mixed(scenario, session=0, canary=0.5)

    def leaks(request: RecommendRequest, honest: Recommend) -> RecommendResponse:
        own = list(request.controls)
        request.controls.append(Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.05))
        answer = honest(request)
        del answer.applied_controls[len(own) :]
        return answer

    proxy.answers = leaks
    violations = (await run(other, address=proxy.address)).figures.violations
    assert set(violations) == {Check.PLAIN_CANARY, Check.STEERED_CANARY}


async def test_the_answer_of_another_row(proxy: Proxy, scenario: Scenario) -> None:
    other = mixed(scenario, session=0, filtered=0, steered=0, canary=1)
    first: list[RecommendRequest] = []

    def mixes_up(request: RecommendRequest, honest: Recommend) -> RecommendResponse:
        first.append(request)
        answer = honest(first[0])
        answer.request_id = request.request_id
        return answer

    proxy.answers = mixes_up
    violations = (await run(other, address=proxy.address)).figures.violations
    assert violations[Check.PLAIN_CANARY] > 50


async def test_controls_that_do_nothing(proxy: Proxy, scenario: Scenario) -> None:
    other = mixed(scenario, session=0, steered=1, concepts=1, canary=1)
    honest_run = await run(other, address=proxy.address, rate=200)
    assert honest_run.figures.steering
    assert not honest_run.figures.violations

    def ignores(request: RecommendRequest, honest: Recommend) -> RecommendResponse:
        applied = honest(request).applied_controls
        del request.controls[:]
        answer = honest(request)
        answer.applied_controls.extend(applied)
        return answer

    proxy.answers = ignores
    ran = await run(other, address=proxy.address, rate=200)
    assert ran.figures.violations[Check.STEERING] == sum(steered.failed for steered in ran.figures.steering) > 0
    assert all(steered.plain == pytest.approx(steered.steered) for steered in ran.figures.steering)


async def test_dropped_events(proxy: Proxy, scenario: Scenario) -> None:
    """Acknowledged, and not kept."""
    totals: dict[str, int] = {}
    turns = itertools.count()

    def drops(request: AppendEventsRequest, honest: Append) -> AppendEventsResponse:
        count = len(request.events)
        totals[request.session_id] = totals.get(request.session_id, 0) + count
        if next(turns) % 3:
            honest(request)
        return AppendEventsResponse(appended=count, total_events=totals[request.session_id])

    proxy.appends = drops
    ran = await run(mixed(scenario, session=1), address=proxy.address)
    assert ran.audit.lost > 5
    assert ran.figures.violations[Check.HISTORY]
    assert ran.figures.violations[Check.APPEND] == 0


async def test_appends_that_are_counted_wrong(proxy: Proxy, scenario: Scenario) -> None:
    def miscounts(request: AppendEventsRequest, honest: Append) -> AppendEventsResponse:
        answer = honest(request)
        answer.total_events += 1
        return answer

    proxy.appends = miscounts
    assert (await run(mixed(scenario, session=1), address=proxy.address)).figures.violations[Check.APPEND]


async def test_an_append_without_an_answer_is_sent_again_and_counts_once(proxy: Proxy, scenario: Scenario) -> None:
    turns = itertools.count()

    def forgets_to_answer(request: AppendEventsRequest, honest: Append) -> AppendEventsResponse:
        answer = honest(request)
        if next(turns) % 4 == 0:
            raise Refused
        return answer

    proxy.appends = forgets_to_answer
    ran = await run(mixed(scenario, session=1), address=proxy.address, seconds=2.0)
    assert ran.figures.outcomes[CallOutcome.REFUSED] > 10
    assert not ran.figures.examples
    assert not ran.audit.failed


async def test_only_the_stated_share_is_checked(proxy: Proxy, scenario: Scenario) -> None:
    proxy.answers = dishonest(answer_to_another)
    assert not (await run(scenario, address=proxy.address, checked=0.0)).figures.violations


def test_items_that_lie_close_may_change_places_in_a_canary() -> None:
    reference = [
        RankedItem("a", 5.0),
        RankedItem("b", 4.00002),
        RankedItem("c", 4.0),
        RankedItem("d", 3.0),
        RankedItem("e", 2.99999),
    ]
    same = [
        reference[:4],
        [
            RankedItem("a", 5.00004),
            RankedItem("c", 4.0),
            RankedItem("b", 4.0),
            RankedItem("e", 3.0),
        ],  # e lay beyond the answer
        [],
    ]
    assert not any(difference(reference, answer, 1e-5) for answer in same)
    assert "rank 1: score" in difference(reference, [RankedItem("a", 5.0001)], 1e-5)
    assert "rank 1: item d for a" in difference(reference, [RankedItem("d", 5.0)], 1e-5)
    assert "rank 1: item x for a" in difference(reference, [RankedItem("x", 5.0)], 1e-5)
    assert difference(reference, [*reference, RankedItem("f", 1.0)], 1e-5) == "6 items for 5"
