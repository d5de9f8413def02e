"""The parts of an answer that a request asks for, over gRPC."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import grpc
import pytest

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import OPERATION_ADD, OPERATION_SCALE, AttributeRef, Control, FeatureRef, Goal, ShareGoal
from steersman.v1.explanation_service_pb2 import ExplainRequest
from steersman.v1.explanation_service_pb2_grpc import ExplanationServiceStub
from steersman.v1.feature_service_pb2 import ListFeaturesRequest
from steersman.v1.item_service_pb2 import ItemAttribute, ListItemsRequest
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, SetControlsRequest
from steersman_service.bundle.items import Items
from tests.serving import Running, failure

EDITS, RECEIPT = pb.ANSWER_PART_EDITS, pb.ANSWER_PART_RECEIPT
ATTRIBUTES, NONE = pb.ANSWER_PART_ATTRIBUTES, pb.ANSWER_PART_NONE
HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)
GOAL = Control(
    attribute=AttributeRef(name="genres", value="Horror"),
    operation=OPERATION_ADD,
    goal=Goal(share=ShareGoal(at_least=0.4)),
)


@pytest.fixture
def history(items: Items) -> pb.History:
    return pb.History(item_ids=items.ids[:5])


@pytest.fixture
def on_feature(server: Running) -> Control:
    (feature,) = server.feature.ListFeatures(ListFeaturesRequest(page_size=1, include_rare=True)).features
    version = server.feature.ListFeatures(ListFeaturesRequest(page_size=1)).bundle_version
    return Control(feature=FeatureRef(id=feature.id, bundle_version=version), operation=OPERATION_SCALE, strength=0.5)


def ask(server: Running, **fields: Any) -> pb.RecommendResponse:
    return server.recommendation.Recommend(pb.RecommendRequest(**fields))


def told(answer: pb.RecommendResponse) -> tuple[bool, bool, bool]:
    """Whether it has edits, a receipt, and attributes."""
    return (
        any(len(applied.edits) for applied in answer.applied_controls),
        answer.HasField("receipt"),
        any(len(item.attributes) for item in answer.items),
    )


@pytest.mark.parametrize(
    ("parts", "receipt", "expected"),
    [
        ([], False, (True, False, False)),
        ([], True, (True, True, False)),
        ([NONE], True, (False, False, False)),
        ([EDITS], True, (True, False, False)),
        ([RECEIPT], False, (False, True, False)),
        ([ATTRIBUTES], False, (False, False, True)),
        ([ATTRIBUTES, EDITS, RECEIPT], False, (True, True, True)),
    ],
)
def test_an_answer_has_the_parts_that_are_named_and_no_others(
    server: Running,
    history: pb.History,
    on_feature: Control,
    parts: Sequence[pb.AnswerPart],
    receipt: bool,
    expected: tuple[bool, bool, bool],
) -> None:
    controls = [HORROR, on_feature]
    usual = ask(server, history=history, controls=controls)
    answer = ask(server, history=history, controls=controls, parts=parts, receipt=receipt)
    assert told(answer) == expected
    assert [one.control for one in answer.applied_controls] == controls
    assert [(item.item_id, item.title) for item in answer.items] == [(item.item_id, item.title) for item in usual.items]
    # What one answer leaves out is in the next: parsed controls are shared.
    assert [one.edits for one in ask(server, history=history, controls=controls).applied_controls] == [
        one.edits for one in usual.applied_controls
    ]


def test_a_goal_is_reached_without_its_receipt(server: Running, history: pb.History) -> None:
    with_receipt = ask(server, history=history, controls=[GOAL])
    assert told(with_receipt)[1]
    without = ask(server, history=history, controls=[GOAL], parts=[EDITS])
    assert not told(without)[1]
    assert [item.item_id for item in without.items] == [item.item_id for item in with_receipt.items]
    assert without.applied_controls[0].control == with_receipt.applied_controls[0].control
    kept = Control(concept="genres:Horror", operation=OPERATION_ADD, goal=Goal(most_divergence=0.2), strength=2)
    bounded = [ask(server, history=history, controls=[kept], parts=[part]) for part in (RECEIPT, NONE)]
    assert bounded[0].applied_controls[0].control == bounded[1].applied_controls[0].control


def attributes(server: Running, item_ids: Sequence[str]) -> dict[str, list[ItemAttribute]]:
    listed = server.item.ListItems(ListItemsRequest(item_ids=item_ids)).items
    return {item.item_id: list(item.attributes) for item in listed}


def test_attributes_are_those_of_list_items(server: Running, history: pb.History) -> None:
    composition = pb.Composition(diversity=0.5)
    session_id = f"parts-{uuid4()}"
    events = [Event(event_id=item_id, item_id=item_id) for item_id in history.item_ids]
    server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events))
    server.session.SetControls(SetControlsRequest(session_id=session_id, controls=[HORROR]))
    for fields in (
        {"history": history},
        {"history": history, "composition": composition},
        {"history": history, "composition": composition, "controls": [GOAL]},
        {"session_id": session_id},
    ):
        answer = ask(server, **fields, parts=[ATTRIBUTES])
        assert told(answer) == (False, False, True)
        known = attributes(server, [item.item_id for item in answer.items])
        assert {item.item_id: list(item.attributes) for item in answer.items} == known
        assert all(known.values())


def test_requests_of_a_batch_have_parts_of_their_own(server: Running, history: pb.History) -> None:
    asked: list[list[pb.AnswerPart]] = [[NONE], [ATTRIBUTES], [], [NONE, EDITS]]
    requests = [pb.RecommendRequest(history=history, controls=[HORROR], parts=parts) for parts in asked]
    results = server.recommendation.BatchRecommend(pb.BatchRecommendRequest(requests=requests)).results
    assert [told(one.response) for one in results[:3]] == [
        (False, False, False),
        (False, False, True),
        (True, False, False),
    ]
    assert [problem.field for problem in results[3].failure.fields] == ["parts[0]"]


def test_an_explanation_accounts_for_edits_that_its_answer_leaves_out(
    server: Running, history: pb.History, on_feature: Control
) -> None:
    explaining = ExplanationServiceStub(server.channel)
    controls = [HORROR, on_feature]
    usual, bare = (
        explaining.Explain(ExplainRequest(request=pb.RecommendRequest(history=history, controls=controls, parts=parts)))
        for parts in list[list[pb.AnswerPart]](([], [ATTRIBUTES]))
    )
    assert told(usual.recommendation) == (True, False, False)
    assert told(bare.recommendation) == (False, False, True)
    assert any(abs(amount) > 1e-3 for account in usual.accounts for amount in account.controls)
    for one, other in zip(bare.accounts, usual.accounts, strict=True):
        assert list(one.controls) == pytest.approx(list(other.controls), abs=1e-4)
    wrong = ExplainRequest(request=pb.RecommendRequest(history=history, parts=[0]))  # type: ignore[list-item]
    assert list(failure(explaining.Explain, wrong).fields) == ["request.parts[0]"]


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([0], "parts[0]"),
        ([EDITS, 77], "parts[1]"),
        ([-1], "parts[0]"),
        ([EDITS, NONE], "parts[1]"),
        ([NONE, ATTRIBUTES], "parts[0]"),
        ([EDITS] * 5, "parts"),
        ([77] * 100_000, "parts"),
    ],
)
def test_parts_that_make_no_sense_are_refused(
    server: Running, history: pb.History, parts: list[Any], field: str
) -> None:
    failed = failure(server.recommendation.Recommend, pb.RecommendRequest(history=history, parts=parts))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(failed.fields) == [field]
