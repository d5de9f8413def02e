"""Goals and receipts, over gRPC."""

import math
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.control_pb2 import (
    CONTROL_SOURCE_SESSION,
    OPERATION_ABLATE,
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_SET,
    AttributeRef,
    Control,
    FeatureRef,
    Goal,
    ItemSet,
    ShareGoal,
)
from steersman.v1.recommendation_service_pb2 import (
    GOAL_STATUS_NOT_REACHABLE,
    GOAL_STATUS_REACHED,
    GOAL_STATUS_UNSPECIFIED,
    History,
    RecommendRequest,
    RecommendResponse,
)
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, SetControlsRequest
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from tests.serving import Running, failure

NAN, INF = float("nan"), float("inf")


def ask(server: Running, **fields: Any) -> RecommendResponse:
    return server.recommendation.Recommend(RecommendRequest(**fields))


def ids(response: RecommendResponse) -> list[str]:
    return [item.item_id for item in response.items]


def horror(goal: Goal, strength: float = 0.0) -> Control:
    return Control(concept="genres:Horror", operation=OPERATION_ADD, strength=strength, goal=goal)


def tilt(value: str, goal: Goal, strength: float = 0.0) -> Control:
    return Control(
        attribute=AttributeRef(name="genres", value=value), operation=OPERATION_ADD, strength=strength, goal=goal
    )


def at_least(share: float, **of: Any) -> Goal:
    return Goal(share=ShareGoal(at_least=share, **of))


def at_most(share: float, **of: Any) -> Goal:
    return Goal(share=ShareGoal(at_most=share, **of))


class Catalogue:
    """What a client knows of items."""

    def __init__(self, bundle: Bundle) -> None:
        rows = bundle.items.to_pylist()
        lists = [name for name in ("genres", "co_consumption") if name in bundle.items.column_names]
        self.values = {row["item_id"]: {(name, v) for name in lists for v in row[name] or ()} for row in rows}

    def share(self, item_ids: Sequence[str], attribute: str, value: str) -> float:
        return sum((attribute, value) in self.values[item_id] for item_id in item_ids) / len(item_ids)


@pytest.fixture(scope="module")
def known(bundle: Bundle) -> Catalogue:
    return Catalogue(bundle)


@pytest.fixture
def history(items: Items) -> History:
    return History(item_ids=items.ids[:5])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6])
@pytest.mark.parametrize("make", [horror, lambda goal: tilt("Horror", goal)], ids=["concept", "tilt"])
def test_a_share_is_reached_by_the_weakest_strength(
    server: Running, known: Catalogue, items: Items, make: Any, share: float
) -> None:
    for begin in range(0, 50, 7):
        history = History(item_ids=items.ids[begin : begin + 6])
        plain, answer = ask(server, history=history), ask(server, history=history, controls=[make(at_least(share))])
        (told,) = answer.receipt.controls
        assert told.share_before == pytest.approx(known.share(ids(plain), "genres", "Horror"))
        assert told.share_after == pytest.approx(known.share(ids(answer), "genres", "Horror"))
        assert told.goal == (GOAL_STATUS_REACHED if told.share_after > share - 1e-6 else GOAL_STATUS_NOT_REACHABLE)
        assert told.applied_strength >= 0
        if told.share_before > share - 1e-6:
            assert told.applied_strength == 0
            assert ids(answer) == ids(plain)
        elif told.goal == GOAL_STATUS_REACHED:
            assert told.share_after <= share + 0.2 + 1e-6
            (applied,) = answer.applied_controls
            applied.control.strength *= 0.8
            weaker = ask(server, history=history, controls=[applied.control])
            assert known.share(ids(weaker), "genres", "Horror") <= told.share_after + 1e-6


def test_what_was_applied_gives_the_same_list_again(server: Running, history: History) -> None:
    goals = [horror(at_least(0.4)), tilt("War", at_most(0.1))]
    answer = ask(server, history=history, controls=goals)
    sent_back = [applied.control for applied in answer.applied_controls]
    assert not any(control.HasField("goal") for control in sent_back)
    told = [one.applied_strength for one in answer.receipt.controls]
    assert [control.strength for control in sent_back] == told
    again = ask(server, history=history, controls=sent_back)
    assert ids(again) == ids(answer)
    assert [item.score for item in again.items] == pytest.approx([item.score for item in answer.items], abs=1e-4)
    assert [len(applied.edits) for applied in again.applied_controls] == [
        len(applied.edits) for applied in answer.applied_controls
    ]


def test_most_turns_down_and_least_turns_up_unless_the_sign_says_otherwise(
    server: Running, bundle: Bundle, history: History
) -> None:
    (of_horror,) = (row for row in bundle.concepts.to_pylist() if row["name"] == "genres:Horror")
    receipts = {
        bound: ask(server, history=history, controls=[control]).receipt.controls[0]
        for bound, control in {
            2.0 / of_horror["unit_up"]: horror(at_least(1.0)),
            -2.0 / of_horror["unit_down"]: horror(at_most(0.0)),
            8.0: tilt("Horror", at_least(1.0)),
            -8.0: tilt("Horror", at_most(0.0)),
            0.5: horror(at_least(1.0), 0.5),
            -0.25: horror(at_least(1.0), -0.25),
            1.5: horror(at_most(0.0), 1.5),
        }.items()
    }
    for bound, told in receipts.items():
        assert told.requested_strength == pytest.approx(bound)
        assert abs(told.applied_strength) <= abs(bound)
        assert told.applied_strength * bound >= 0


def test_what_cannot_be_reached_says_what_was_best(server: Running, history: History) -> None:
    answer = ask(server, history=history, controls=[horror(at_least(1.0), 1e-6)])
    (told,) = answer.receipt.controls
    assert told.goal == GOAL_STATUS_NOT_REACHABLE
    assert told.share_after == told.share_before
    assert told.note.startswith(f"not reachable: best was {told.share_after:.3g} of the list at strength")


def test_a_goal_may_count_something_else(
    server: Running, bundle: Bundle, known: Catalogue, history: History, items: Items
) -> None:
    feature = int(np.flatnonzero(bundle.features["scale"].to_numpy())[0])
    wanted = [items.ids[7], items.ids[8], items.ids[8], "unknown"]
    for of, count in (
        ({"attribute": AttributeRef(name="genres", value="War")}, lambda it: ("genres", "War") in known.values[it]),
        ({"concept": "genres:War"}, lambda it: ("genres", "War") in known.values[it]),
        ({"items": ItemSet(item_ids=wanted)}, lambda it: it in wanted),
    ):
        control = Control(
            feature=FeatureRef(id=feature, bundle_version=bundle.version),
            operation=OPERATION_ADD,
            goal=at_least(0.3, **of),
        )
        answer = ask(server, history=history, controls=[control])
        (told,) = answer.receipt.controls
        assert told.share_after == pytest.approx(sum(map(count, ids(answer))) / 10)
        assert told.requested_strength == pytest.approx(2 / bundle.features["unit_up"][feature].as_py())


def own_divergence(steered: RecommendResponse, plain: RecommendResponse) -> float:
    """Of lists of all items."""
    t = {item.item_id: item.score for item in plain.items}
    s_N = np.array([item.score for item in steered.items], np.float64)
    t_N = np.array([t[item.item_id] for item in steered.items])
    log_p, log_q = s_N - np.log(np.exp(s_N).sum()), t_N - np.log(np.exp(t_N).sum())
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def test_a_receipt_says_what_a_client_computes_from_the_two_lists(
    server: Running, bundle: Bundle, known: Catalogue, history: History
) -> None:
    strengths = {"genres:Horror": 1.2, "genres:War": -0.6}
    controls = [Control(concept=name, operation=OPERATION_ADD, strength=s) for name, s in strengths.items()]
    controls.append(Control(attribute=AttributeRef(name="year"), operation=OPERATION_ADD, strength=0.5))
    answer = ask(server, history=history, controls=controls, receipt=True)
    plain = ask(server, history=history)
    assert not plain.HasField("receipt")
    before, after, receipt = ids(plain), ids(answer), answer.receipt
    assert ids(ask(server, history=history, controls=controls)) == after
    assert receipt.overlap == pytest.approx(len(set(before) & set(after)) / 10)
    for told, control in zip(receipt.controls, controls, strict=True):
        assert (told.requested_strength, told.applied_strength) == (control.strength, control.strength)
        assert told.goal == GOAL_STATUS_UNSPECIFIED
        value = control.concept.removeprefix("genres:")
        assert told.HasField("share_before") == told.HasField("share_after") == bool(value)
        if value:
            assert told.share_before == pytest.approx(known.share(before, "genres", value))
            assert told.share_after == pytest.approx(known.share(after, "genres", value))
    kept = {row["name"]: row["ndcg_kept"] for row in bundle.concepts.to_pylist()}
    expected = math.prod(kept[name] ** abs(strength) for name, strength in strengths.items())
    assert receipt.ndcg_kept_estimate == pytest.approx(expected, rel=1e-5)
    whole, whole_plain = ask(server, history=history, controls=controls, k=1000), ask(server, history=history, k=1000)
    assert receipt.divergence == pytest.approx(own_divergence(whole, whole_plain), rel=1e-3, abs=1e-5)
    values = {value for item_id in before + after for value in known.values[item_id]}
    moved = {value: known.share(after, *value) - known.share(before, *value) for value in values}
    expected_effects = {
        v for v, d in moved.items() if abs(d) > 0.099 and v not in {("genres", "Horror"), ("genres", "War")}
    }
    assert {(effect.attribute, effect.value) for effect in receipt.side_effects} == expected_effects
    sizes = [abs(effect.share_after - effect.share_before) for effect in receipt.side_effects]
    assert sizes == sorted(sizes, reverse=True)


def test_a_receipt_without_controls_says_that_nothing_was_done(server: Running, history: History) -> None:
    receipt = ask(server, history=history, receipt=True).receipt
    assert (receipt.overlap, receipt.divergence) == (1, 0)
    assert not receipt.controls
    assert not receipt.side_effects
    assert not receipt.HasField("ndcg_kept_estimate")


KINDS = st.sampled_from(["concept", "tilt", "down"])


@given(
    begin=st.integers(0, 50),
    kind=KINDS,
    overlap=st.none() | st.floats(0, 1, width=32),
    divergence=st.floats(0, 2, width=32),
    beside=st.sampled_from([0.0, 0.8]),
)
@settings(max_examples=60, deadline=None)
def test_a_budget_is_never_exceeded(
    server: Running, items: Items, begin: int, kind: str, overlap: float | None, divergence: float, beside: float
) -> None:
    history = History(item_ids=items.ids[begin : begin + 8])
    goal = Goal(most_divergence=divergence) if overlap is None else Goal(least_overlap=overlap)
    bounded = {"concept": horror(goal), "tilt": tilt("War", goal), "down": horror(goal, -2.0)}[kind]
    other = Control(concept="genres:War", operation=OPERATION_ADD, strength=beside)
    answer = ask(server, history=history, controls=[bounded, other])
    told, plain = answer.receipt.controls[0], ids(ask(server, history=history))
    kept = np.float32(len(set(plain) & set(ids(answer))) / len(plain))
    within = answer.receipt.divergence <= np.float32(divergence) if overlap is None else kept >= np.float32(overlap)
    assert answer.receipt.overlap == kept
    assert within == (told.goal == GOAL_STATUS_REACHED)
    if not beside:
        assert within
    elif not within:  # the other control alone exceeds it
        alone = ask(server, history=history, controls=[other], receipt=True).receipt
        assert alone.overlap < np.float32(overlap or 0) or alone.divergence > divergence


def test_a_budget_is_used_up(server: Running, history: History) -> None:
    for goal, name in ((Goal(most_divergence=0.05), "divergence"), (Goal(least_overlap=0.7), "overlap")):
        answer = ask(server, history=history, controls=[tilt("Horror", goal)])
        strength = answer.receipt.controls[0].applied_strength
        assert 0 < strength < 8
        stronger = tilt("Horror", Goal(), strength + 8 / 29)
        stronger.ClearField("goal")
        beyond = ask(server, history=history, controls=[stronger], receipt=True).receipt
        assert beyond.divergence > 0.05 if name == "divergence" else beyond.overlap < 0.7


def test_several_goals_are_solved_together(server: Running, known: Catalogue, history: History) -> None:
    controls = [tilt("Horror", at_least(0.3)), tilt("War", at_least(0.3)), tilt("Comedy", at_most(0.2))]
    answer = ask(server, history=history, controls=controls)
    for told, value in zip(answer.receipt.controls, ("Horror", "War", "Comedy"), strict=True):
        assert told.share_after == pytest.approx(known.share(ids(answer), "genres", value))
        assert told.goal == GOAL_STATUS_REACHED, told.note


def test_a_sticky_goal_is_solved_at_each_request(server: Running, known: Catalogue, items: Items) -> None:
    session = f"goals-{uuid4()}"
    server.session.SetControls(SetControlsRequest(session_id=session, controls=[tilt("Horror", at_least(0.4))]))
    strengths = []
    for number in range(4):
        event = Event(event_id=str(number), item_id=items.ids[11 * number])
        server.session.AppendEvents(AppendEventsRequest(session_id=session, events=[event]))
        answer = ask(server, session_id=session)
        assert known.share(ids(answer), "genres", "Horror") >= 0.4
        (applied,) = answer.applied_controls
        assert applied.source == CONTROL_SOURCE_SESSION
        strengths.append(applied.control.strength)
    assert len(set(strengths)) > 1


OF_ATTRIBUTE = AttributeRef(name="genres", value="War")
WRONG = {
    "no goal": (horror(Goal()), ".goal"),
    "no bound": (horror(Goal(share=ShareGoal())), ".goal.share"),
    "a share above 1": (horror(at_least(1.01)), ".goal.share.at_least"),
    "a share below 0": (horror(at_most(-0.1)), ".goal.share.at_most"),
    "a share of NaN": (horror(at_least(NAN)), ".goal.share.at_least"),
    "an overlap above 1": (horror(Goal(least_overlap=2)), ".goal.least_overlap"),
    "an overlap of NaN": (horror(Goal(least_overlap=NAN)), ".goal.least_overlap"),
    "a divergence below 0": (horror(Goal(most_divergence=-1e-9)), ".goal.most_divergence"),
    "a divergence of NaN": (horror(Goal(most_divergence=NAN)), ".goal.most_divergence"),
    "a divergence without end": (horror(Goal(most_divergence=INF)), ".goal.most_divergence"),
    "a strength of NaN": (horror(at_least(0.3), NAN), ".strength"),
    "a huge strength": (horror(at_least(0.3), -1e9), ".strength"),
    "an unknown attribute": (
        horror(at_least(0.3, attribute=AttributeRef(name="colour", value="red"))),
        ".goal.share.attribute.name",
    ),
    "an unknown value": (
        horror(at_least(0.3, attribute=AttributeRef(name="genres", value="Horor"))),
        ".goal.share.attribute.value",
    ),
    "a share of a number": (horror(at_least(0.3, attribute=AttributeRef(name="year"))), ".goal.share.attribute.value"),
    "an unknown concept": (horror(at_least(0.3, concept="genres:Horor")), ".goal.share.concept"),
    "no item": (horror(at_least(0.3, items=ItemSet())), ".goal.share.items.item_ids"),
    "unknown items": (horror(at_least(0.3, items=ItemSet(item_ids=["?"]))), ".goal.share.items.item_ids"),
    "too many items": (horror(at_least(0.3, items=ItemSet(item_ids=["1"] * 1001))), ".goal.share.items.item_ids"),
    "a number's share": (
        Control(attribute=AttributeRef(name="year"), operation=OPERATION_ADD, goal=at_least(0.3)),
        ".goal.share",
    ),
}


@pytest.mark.parametrize(("control", "field"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_a_goal_is_named(server: Running, control: Control, field: str) -> None:
    for call, request in (
        (server.recommendation.Recommend, RecommendRequest(controls=[control])),
        (server.session.SetControls, SetControlsRequest(session_id="wrong", controls=[control])),
    ):
        refused = failure(call, request)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(refused.fields) == [f"controls[0]{field}"]


def test_goals_of_features(server: Running, bundle: Bundle) -> None:
    feature = FeatureRef(id=int(np.flatnonzero(bundle.features["scale"].to_numpy())[0]), bundle_version=bundle.version)
    says_nothing = Control(feature=feature, operation=OPERATION_ADD, goal=at_least(0.3))
    refused = failure(server.recommendation.Recommend, RecommendRequest(controls=[says_nothing]))
    assert list(refused.fields) == ["controls[0].goal.share"]
    for operation in (OPERATION_SET, OPERATION_SCALE, OPERATION_ABLATE):
        other = Control(feature=feature, operation=operation, goal=at_least(0.3, attribute=OF_ATTRIBUTE))
        refused = failure(server.recommendation.Recommend, RecommendRequest(controls=[other]))
        assert list(refused.fields) == ["controls[0].goal"]
    stale = Control(
        feature=FeatureRef(id=0, bundle_version="other"), operation=OPERATION_ADD, goal=Goal(least_overlap=0.5)
    )
    refused = failure(server.recommendation.Recommend, RecommendRequest(controls=[stale]))
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION


def test_goals_are_few(server: Running) -> None:
    goals = [tilt("War", Goal(least_overlap=0.5))] * 4
    assert len(ask(server, controls=goals).receipt.controls) == 4
    refused = failure(server.recommendation.Recommend, RecommendRequest(controls=[*goals, goals[0]]))
    assert refused.fields.keys() == {"controls"}
    assert "at most 4" in refused.fields["controls"]


def test_a_list_without_items_has_a_receipt(server: Running, items: Items) -> None:
    answer = ask(server, history=History(item_ids=items.ids), controls=[horror(at_least(0.4))])
    assert not answer.items
    assert (answer.receipt.overlap, answer.receipt.divergence) == (1, 0)
    assert answer.receipt.controls[0].goal == GOAL_STATUS_NOT_REACHABLE


def test_a_large_catalogue_is_read_for_the_answer_alone(
    server: Running, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    controls = [horror(at_least(0.4)), tilt("War", Goal(least_overlap=0.3))]
    usual = ask(server, history=history, controls=controls).receipt
    monkeypatch.setattr("steersman_service.api.solving.SMALL_MASK", 0)
    for asked in (controls, [horror(Goal(most_divergence=0.1))]):
        receipt = ask(server, history=history, controls=asked).receipt
        assert receipt.divergence > 0
        if asked is controls:
            assert receipt.divergence == pytest.approx(usual.divergence, rel=1e-3)
            assert [one.applied_strength for one in receipt.controls] == [
                one.applied_strength for one in usual.controls
            ]
