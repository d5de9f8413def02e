"""BatchRecommend, over gRPC: each request is answered or refused as a call of its own would be."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from google.rpc.code_pb2 import Code
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.control_pb2 import OPERATION_ADD, OPERATION_SET, AttributeRef, Control, FeatureRef, Goal, ShareGoal
from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.recommendation_service_pb2 import (
    BatchRecommendRequest,
    Filters,
    History,
    RecommendRequest,
    RecommendResponse,
    RecommendResult,
)
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event
from steersman_service.api.batch import BatchVisits
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.events import Events, Kinds
from steersman_service.sessions.reader import Session
from tests.serving import Running, explain, failure, serving, settings_for

HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)


def batch(server: Running, *requests: RecommendRequest) -> Sequence[RecommendResult]:
    return server.recommendation.BatchRecommend(BatchRecommendRequest(requests=requests)).results


def without_times(response: RecommendResponse) -> RecommendResponse:
    """What a call of its own answers, too; scores are compared apart."""
    same = RecommendResponse()
    same.CopyFrom(response)
    same.ClearField("timings")
    for item in same.items:
        item.score = 0
    for applied in same.applied_controls:
        for edit in applied.edits:
            edit.strength = round(edit.strength, 4)
    same.receipt.divergence = round(same.receipt.divergence, 4)
    return same


def assert_as_alone(server: Running, request: RecommendRequest, result: RecommendResult) -> None:
    try:
        alone = server.recommendation.Recommend(request)
    except grpc.RpcError as error:
        refused = explain(error)
        told = result.failure
        assert (Code.Name(told.code), told.message, told.reason) == (refused.code.name, refused.message, refused.reason)
        assert {problem.field: problem.description for problem in told.fields} == refused.fields
        own_id = {"request_id": told.metadata["request_id"]}
        assert dict(told.metadata) == refused.metadata | own_id
        return
    scores = [item.score for item in result.response.items]
    assert scores == pytest.approx([item.score for item in alone.items], abs=1e-4)
    result.response.request_id = alone.request_id
    assert without_times(result.response) == without_times(alone)


@pytest.fixture(scope="module")
def session(server: Running, items: Items) -> str:
    session_id = f"batch-{uuid4()}"
    events = [Event(event_id=str(n), item_id=item_id) for n, item_id in enumerate(items.ids[:8])]
    server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events))
    return session_id


HISTORIES = st.lists(st.sampled_from(range(70)), max_size=12)
STRENGTHS = st.sampled_from([-1.0, 0.0, 0.5, 1.5, 99.0, float("nan")])
CONTROLS = st.one_of(
    st.builds(lambda s: Control(concept="genres:Horror", operation=OPERATION_ADD, strength=s), STRENGTHS),
    st.builds(
        lambda s: Control(attribute=AttributeRef(name="genres", value="War"), operation=OPERATION_ADD, strength=s),
        STRENGTHS,
    ),
    st.builds(
        lambda share: Control(
            concept="genres:War", operation=OPERATION_ADD, goal=Goal(share=ShareGoal(at_least=share))
        ),
        st.sampled_from([0.2, 0.5, 2.0]),
    ),
    st.just(Control(concept="nothing", operation=OPERATION_ADD)),
    st.just(Control(feature=FeatureRef(id=0, bundle_version="another"), operation=OPERATION_SET)),
)


@given(
    given=st.lists(
        st.tuples(st.none() | HISTORIES, st.lists(CONTROLS, max_size=2), st.sampled_from([0, 3, 5000]), st.booleans()),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=25, deadline=None)
def test_each_is_answered_or_refused_as_alone(
    server: Running, items: Items, session: str, given: list[tuple[list[int] | None, list[Control], int, bool]]
) -> None:
    ids = [*items.ids, *(f"unknown-{n}" for n in range(70 - len(items.ids)))]
    requests = []
    for history, controls, k, receipt in given:
        request = RecommendRequest(controls=controls, k=k, receipt=receipt)
        if history is None:
            request.session_id = session
        else:
            request.history.item_ids.extend(ids[place] for place in history)
        requests.append(request)
    results = batch(server, *requests)
    assert len(results) == len(requests)
    for request, result in zip(requests, results, strict=True):
        assert_as_alone(server, request, result)


def test_ids_are_echoed_or_made(server: Running, items: Items) -> None:
    history = History(item_ids=items.ids[:3])
    bad = [Control(concept="no", operation=OPERATION_ADD)]
    mine, other, another, refused = batch(
        server,
        RecommendRequest(history=history, request_id="mine"),
        RecommendRequest(history=history),
        RecommendRequest(history=history),
        RecommendRequest(history=history, request_id="refused", controls=bad),
    )
    assert mine.response.request_id == "mine"
    assert len({mine.response.request_id, other.response.request_id, another.response.request_id}) == 3
    assert len(other.response.request_id) == 32
    assert refused.failure.metadata["request_id"] == "refused"
    assert refused.failure.code == Code.Value("INVALID_ARGUMENT")
    (too_long,) = batch(server, RecommendRequest(request_id="x" * 129))
    assert [problem.field for problem in too_long.failure.fields] == ["request_id"]
    assert len(too_long.failure.metadata["request_id"]) == 128


def test_a_history_is_read_once(server: Running, items: Items) -> None:
    """It is one batch of the engine, of which the state cache sees one history."""
    history = History(item_ids=[*reversed(items.ids[:9])])
    plain, steered = batch(
        server, RecommendRequest(history=history), RecommendRequest(history=history, controls=[HORROR])
    )
    assert plain.response.timings.batch_size == steered.response.timings.batch_size == 2


def test_none_and_too_many_are_refused(server: Running) -> None:
    most = server.model.GetModelInfo(GetModelInfoRequest()).limits.batch_requests
    assert most == 32
    for count in (0, most + 1):
        refused = failure(
            server.recommendation.BatchRecommend, BatchRecommendRequest(requests=[RecommendRequest()] * count)
        )
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields.keys() == {"requests"}
    assert len(batch(server, *[RecommendRequest(k=1)] * most)) == most


def test_an_answer_that_is_too_large_says_so(bundle_dir: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, bundle_dir, max_message_bytes=4000)) as small:
        refused = failure(
            small.recommendation.BatchRecommend, BatchRecommendRequest(requests=[RecommendRequest(k=20)] * 20)
        )
    assert (refused.reason, refused.metadata["field"]) == ("ANSWER_TOO_LARGE", "requests")


def test_a_full_queue_refuses_some_and_says_when_to_come_back(
    bundle_dir: Path, tmp_path: Path, slow: tuple[object, object]
) -> None:
    _, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir, queue_size=2, max_batch=1)) as small:
        asked = BatchRecommendRequest(requests=[RecommendRequest(k=1)] * 6)
        waiting = small.recommendation.BatchRecommend.future(asked)
        go_on.set()  # type: ignore[attr-defined]
        results = waiting.result().results
    refused = [result.failure for result in results if result.HasField("failure")]
    assert len(results) == 6
    assert 0 < len(refused) < 6
    assert {one.reason for one in refused} == {"QUEUE_FULL"}
    assert all(one.code == Code.Value("RESOURCE_EXHAUSTED") and one.retry_seconds > 0 for one in refused)


def test_filters_are_each_request_s_own(server: Running, items: Items, bundle: Bundle) -> None:
    allowed = Filters(allow_item_ids=[items.ids[7]])
    one, all_of_them = batch(server, RecommendRequest(filters=allowed), RecommendRequest(k=1000))
    assert [item.item_id for item in one.response.items] == [items.ids[7]]
    assert len(all_of_them.response.items) == len(bundle.items_ND)


class CountedSessions:
    """Notes every visit."""

    def __init__(self, error: Exception | None = None) -> None:
        self.visits: list[str] = []
        self._error = error

    async def visit(self, session_id: str, events: Events, kinds: Kinds | None = None) -> Session | None:
        self.visits.append(session_id)
        await asyncio.sleep(0)
        if self._error:
            raise self._error
        return None


@pytest.fixture(params=[None, StoreUnavailable()])
def counted(request: pytest.FixtureRequest) -> CountedSessions:
    return CountedSessions(request.param)


async def test_a_session_is_read_once_for_all_that_only_read_it(counted: CountedSessions) -> None:
    visits = BatchVisits(counted)
    asked = [("a", ()), ("b", ()), ("a", ()), ("a", [("event", "item")]), ("a", ())]
    results = await asyncio.gather(*(visits.visit(*each) for each in asked), return_exceptions=True)
    assert sorted(counted.visits) == ["a", "a", "b"]
    assert len({repr(result) for result in results}) == 1
