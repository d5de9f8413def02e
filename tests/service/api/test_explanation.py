"""Explain, over gRPC: accounts that sum to the scores of Recommend, and changes that Recommend confirms."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import grpc
import numpy as np
import pytest

from steersman.v1.control_pb2 import (
    OPERATION_ABLATE,
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_SET,
    AttributeRef,
    Control,
    FeatureRef,
    Goal,
)
from steersman.v1.explanation_service_pb2 import (
    CHANGE_STATUS_FOUND,
    CHANGE_STATUS_NOT_FOUND,
    Account,
    Change,
    ChangeQuery,
    ExplainRequest,
    ExplainResponse,
)
from steersman.v1.explanation_service_pb2_grpc import ExplanationServiceStub
from steersman.v1.feature_service_pb2 import ListFeaturesRequest
from steersman.v1.recommendation_service_pb2 import Filters, History, RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, SetControlsRequest
from steersman_service.api.caller import Caller
from steersman_service.api.explanation import ExplanationService
from steersman_service.api.list_change import ListChange
from steersman_service.api.recommendation import RecommendationService
from steersman_service.api.release import Release
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.request import EngineRequest, EngineResult
from steersman_service.errors import DeadlinePassed, NotExplainable
from steersman_service.scheduling.batcher import Batcher
from steersman_service.telemetry.metrics import Metrics
from tests.serving import Failure, Running, failure, serving, settings_for

HORROR = "genres:Horror"


@pytest.fixture(scope="module")
def below(below_the_last_block: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose scores are not linear in the hidden state."""
    with serving(settings_for(tmp_path_factory.mktemp("below-server"), below_the_last_block)) as running:
        yield running


def explain(server: Running, **fields: Any) -> ExplainResponse:
    response: ExplainResponse = ExplanationServiceStub(server.channel).Explain(ExplainRequest(**fields))
    return response


def wrong(server: Running, **fields: Any) -> Failure:
    failed = failure(ExplanationServiceStub(server.channel).Explain, ExplainRequest(**fields))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.reason == "INVALID_REQUEST"
    return failed


def recommend(server: Running, request: RecommendRequest) -> RecommendResponse:
    response: RecommendResponse = server.recommendation.Recommend(request)
    return response


def ids(response: RecommendResponse | Change) -> list[str]:
    return [item.item_id for item in response.items]


def asking(items: Items, *, events: int = 12, seed: int = 0, **fields: Any) -> RecommendRequest:
    history = np.random.default_rng(seed).permutation(items.ids)[:events].tolist()
    return RecommendRequest(history=History(item_ids=history), **fields)


def on_feature(bundle: Bundle, feature: int, operation: Any = OPERATION_ADD, strength: float = 0.5) -> Control:
    return Control(
        feature=FeatureRef(id=feature, bundle_version=bundle.version), operation=operation, strength=strength
    )


def horror(strength: float = 0.5) -> Control:
    return Control(concept=HORROR, operation=OPERATION_ADD, strength=strength)


def every_kind(bundle: Bundle) -> list[Control]:
    """Features by each operation, two of them on one feature, concepts, and tilts."""
    alive = np.flatnonzero(bundle.features["scale"].to_numpy())[:4].tolist()
    genre, year = AttributeRef(name="genres", value="War"), AttributeRef(name="year")
    return [
        on_feature(bundle, alive[0]),
        Control(attribute=genre, operation=OPERATION_ADD, strength=0.5),
        on_feature(bundle, alive[1], OPERATION_SET, 1.0),
        horror(),
        on_feature(bundle, alive[2], OPERATION_SCALE, 1.5),
        on_feature(bundle, alive[0], OPERATION_ABLATE, 0.0),
        horror(0.0),
        Control(attribute=year, operation=OPERATION_ADD, strength=-0.25),
    ]


def total(account: Account) -> float:
    parts = [one.amount for one in account.features]
    return sum(parts) + account.other_features + account.unexplained + account.bias + sum(account.controls)


def assert_sums(response: ExplainResponse) -> None:
    """To the scores of the list, in its order."""
    answer = response.recommendation
    scale = max([1.0, *(abs(item.score) for item in answer.items)])
    for account in response.accounts:
        assert total(account) == pytest.approx(account.score, abs=1e-4 * scale)
        assert len(account.controls) == len(answer.applied_controls)
    for rank, (item, account) in enumerate(zip(answer.items, response.accounts, strict=False), 1):
        assert (account.item_id, account.title, account.rank) == (item.item_id, item.title, rank)
        assert account.score == pytest.approx(item.score, abs=1e-5 * scale)


def test_the_list_is_that_of_recommend_and_accounts_sum_to_its_scores(
    server: Running, bundle: Bundle, items: Items
) -> None:
    for controls in ([], every_kind(bundle)):
        request = asking(items, controls=controls, k=7, request_id="mine", filters=Filters(deny_item_ids=items.ids[:9]))
        wanted = recommend(server, request)
        response = explain(server, request=request, item_ids=[items.ids[0], wanted.items[2].item_id])
        answer = response.recommendation
        assert answer.request_id == "mine"
        wanted.timings.CopyFrom(answer.timings)
        assert answer == wanted
        assert_sums(response)
        *_, denied, listed = response.accounts
        assert (denied.item_id, denied.rank, len(response.accounts)) == (items.ids[0], 0, 9)
        assert listed.rank == 3
        assert response.method == "exact"
        assert not response.HasField("change")


def test_each_control_has_its_part(server: Running, bundle: Bundle, items: Items) -> None:
    plain = asking(items, k=60, filters=Filters(include_seen=True))
    controls = [horror(1.0), Control(attribute=AttributeRef(name="genres", value="War"), operation=OPERATION_ADD)]
    controls[1].strength = 0.75
    steered = RecommendRequest()
    steered.CopyFrom(plain)
    steered.controls.extend(controls)
    before = {item.item_id: item.score for item in recommend(server, plain).items}
    wars = set(ids(recommend(server, asking(items, k=60, filters=by_genre("War")))))
    for account in explain(server, request=steered).accounts:
        assert sum(account.controls) == pytest.approx(account.score - before[account.item_id], abs=1e-4)
        assert account.controls[1] == pytest.approx(0.75 if account.item_id in wars else 0, abs=1e-6)


def by_genre(genre: str) -> Filters:
    filters = Filters(include_seen=True)
    filters.attributes.add(attribute="genres", any_of=[genre])
    return filters


def test_a_hook_below_the_last_block_is_accounted_for_along_a_path(below: Running, items: Items) -> None:
    listed = below.feature.ListFeatures(ListFeaturesRequest(include_rare=True))
    alive = next(feature.id for feature in listed.features if feature.scale)
    reference = FeatureRef(id=alive, bundle_version=listed.bundle_version)
    feature = Control(feature=reference, operation=OPERATION_ADD, strength=1.0)
    for controls in ([], [horror(1.0), feature]):
        response = explain(below, request=asking(items, controls=controls), item_ids=items.ids[:3])
        assert response.method == "path"
        assert_sums(response)


def test_top_features_are_named_and_the_rest_is_summed(server: Running, bundle: Bundle, items: Items) -> None:
    few, all_of_them = (explain(server, request=asking(items), top_features=top) for top in (2, 100))
    assert len(few.taste.features) == 2
    for short, long in zip(few.accounts, all_of_them.accounts, strict=True):
        assert list(short.features) == list(long.features[:2])
        assert short.other_features == pytest.approx(sum(one.amount for one in long.features[2:]), abs=1e-4)
        assert long.other_features == pytest.approx(0, abs=1e-5)
        sizes = [abs(one.amount) for one in long.features]
        assert sizes == sorted(sizes, reverse=True)
    taste = all_of_them.taste
    shares = [one.spread_share for one in taste.features]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + taste.unexplained_share == pytest.approx(1, abs=1e-4)
    assert all(one.activation > 0 for one in taste.features)
    labels = bundle.features["label"].to_pylist()
    assert [one.label for one in taste.features] == [labels[one.feature_id] for one in taste.features]
    assert len(explain(server, request=asking(items)).taste.features) == 5


def test_taste_is_before_any_control(server: Running, bundle: Bundle, items: Items) -> None:
    plain = explain(server, request=asking(items)).taste
    steered = explain(server, request=asking(items, controls=every_kind(bundle))).taste
    for one, other in zip(plain.features, steered.features, strict=True):
        assert one.feature_id == other.feature_id
        assert one.activation == pytest.approx(other.activation, abs=1e-5)


def test_events_that_carry_a_feature(server: Running, items: Items) -> None:
    request = asking(items, events=8)
    response = explain(server, request=request, event_influence=True)
    history = list(request.history.item_ids)
    checked = 0
    for feature in response.taste.features:
        changes = [abs(event.activation_change) for event in feature.events]
        assert changes == sorted(changes, reverse=True)
        for event in feature.events[:2]:
            assert event.item_id == history[event.place]
            assert event.title == items.titles[items.ids.index(event.item_id)]
            fewer = RecommendRequest(history=History(item_ids=without(history, [event.place])))
            taste = explain(server, request=fewer, top_features=100).taste
            there = {one.feature_id: one.activation for one in taste.features}
            change = feature.activation - there.get(feature.feature_id, 0)
            assert event.activation_change == pytest.approx(change, abs=1e-4)
            checked += 1
    assert checked
    assert not any(feature.events for feature in explain(server, request=request).taste.features)
    assert explain(server, request=RecommendRequest(), event_influence=True).recommendation.history_use.empty


def without(history: list[str], places: list[int]) -> list[str]:
    return [item_id for place, item_id in enumerate(history) if place not in places]


def test_a_session_is_explained_and_left_as_it_is(server: Running, bundle: Bundle, items: Items) -> None:
    """Longer than what is kept; one event is of an unknown item."""
    session = f"explained-{uuid4()}"
    history = [*items.ids[:29], "unknown"]
    events = [Event(event_id=str(n), item_id=item_id) for n, item_id in enumerate(history)]
    server.session.AppendEvents(AppendEventsRequest(session_id=session, events=events))
    server.session.SetControls(SetControlsRequest(session_id=session, controls=[horror(0.3)]))
    request = RecommendRequest(session_id=session, controls=every_kind(bundle)[:2])
    wanted = recommend(server, request)
    response = explain(server, request=request, event_influence=True)
    assert ids(response.recommendation) == ids(wanted)
    assert response.recommendation.session_version == wanted.session_version
    assert_sums(response)
    assert len(response.accounts[0].controls) == 3
    window = history[10:]  # of 20 events in strides of 5
    for feature in response.taste.features:
        for event in feature.events:
            assert event.item_id == window[event.place]
    assert recommend(server, request).session_version == wanted.session_version


def steered_by(request: RecommendRequest, control: Control) -> RecommendRequest:
    changed = RecommendRequest()
    changed.CopyFrom(request)
    changed.controls.append(control)
    return changed


def assert_confirmed(server: Running, request: RecommendRequest, item_id: str, change: Change) -> None:
    """Recommend gives the changed list at the strength, and not the wanted one at a little less of it."""
    before, after = recommend(server, request), recommend(server, steered_by(request, change.control))
    assert ids(after) == ids(change)
    assert [item.score for item in change.items] == pytest.approx([item.score for item in after.items], abs=1e-5)
    assert (item_id in ids(after)) != (item_id in ids(before))
    assert change.was_in_list == (item_id in ids(before))
    assert change.overlap == pytest.approx(np.isin(ids(before), ids(after)).mean())
    assert 0 < abs(change.control.strength) <= 2
    less = Control()
    less.CopyFrom(change.control)
    less.strength -= np.sign(less.strength) * min(0.0101, abs(less.strength))
    assert (item_id in ids(recommend(server, steered_by(request, less)))) == (item_id in ids(before))


@pytest.mark.parametrize("running", ["server", "below"])
def test_the_least_strength_of_a_control(running: str, items: Items, request: pytest.FixtureRequest) -> None:
    """Into the list and off it, up and down; confirmed by Recommend in every case."""
    server: Running = request.getfixturevalue(running)
    found = 0
    for seed in range(4):
        asked = asking(items, seed=seed, controls=[horror(0.1)], k=5)
        listed = ids(recommend(server, asked))
        longer = RecommendRequest()
        longer.CopyFrom(asked)
        longer.k = 20
        near = ids(recommend(server, longer))[5:12:3]
        for item_id in (listed[-1], *near):
            for control in (Control(concept="genres:War", operation=OPERATION_ADD), tilt("Comedy", 1), tilt("War", -1)):
                query = ChangeQuery(item_id=item_id, control=control)
                change = explain(server, request=asked, change=query).change
                if change.status == CHANGE_STATUS_NOT_FOUND:
                    assert change == Change(status=CHANGE_STATUS_NOT_FOUND, was_in_list=item_id in listed)
                    continue
                found += 1
                assert change.status == CHANGE_STATUS_FOUND
                assert_confirmed(server, asked, item_id, change)
                assert control.strength * change.control.strength >= 0
    assert found > 10


def tilt(genre: str, sign: float) -> Control:
    attribute = AttributeRef(name="genres", value=genre)
    return Control(attribute=attribute, operation=OPERATION_ADD, strength=sign)


@pytest.mark.parametrize("running", ["server", "below"])
def test_the_cheapest_single_control(running: str, items: Items, request: pytest.FixtureRequest) -> None:
    server: Running = request.getfixturevalue(running)
    found = 0
    for seed in range(4):
        asked = asking(items, seed=seed, k=5)
        longer = RecommendRequest()
        longer.CopyFrom(asked)
        longer.k = 12
        ranked = ids(recommend(server, longer))
        for item_id in (ranked[2], ranked[4], ranked[6], ranked[11]):
            change = explain(server, request=asked, change=ChangeQuery(item_id=item_id, any_control=True)).change
            if change.status != CHANGE_STATUS_FOUND:
                continue
            found += 1
            assert_confirmed(server, asked, item_id, change)
            # A control that is named does at best as well.
            one = explain(server, request=asked, change=ChangeQuery(item_id=item_id, control=named(change))).change
            assert (one.control, one.items) == (change.control, change.items)
    assert found > 8


def named(change: Change) -> Control:
    """Its direction alone."""
    control = Control()
    control.CopyFrom(change.control)
    control.strength = float(np.sign(control.strength))
    return control


@pytest.mark.parametrize("events", [10, 33])
def test_events_whose_going_takes_an_item_off_the_list(server: Running, items: Items, events: int) -> None:
    """Also of a history longer than the window, some of whose items are unknown. Recommend without them confirms it."""
    found = 0
    for seed in range(4):
        asked = asking(items, events=events, seed=seed, k=6)
        history = ["unknown", *asked.history.item_ids]
        history.insert(-3, "unknown, too")
        del asked.history.item_ids[:]
        asked.history.item_ids.extend(history)
        start = {10: 0, 33: 15}[events]
        window = [place for place in range(start, len(history)) if "unknown" not in history[place]]
        before = ids(recommend(server, asked))
        for item_id in (before[1], before[-1]):
            change = explain(server, request=asked, change=ChangeQuery(item_id=item_id, events=True)).change
            assert change.was_in_list
            if change.status != CHANGE_STATUS_FOUND:
                continue
            found += 1
            gone = [window[place] for place in change.event_places]
            assert [history[place] for place in gone] == list(change.event_item_ids)
            assert 1 <= len(gone) <= 20
            fewer = RecommendRequest(history=History(item_ids=without(history, gone)), k=6)
            assert ids(recommend(server, fewer)) == ids(change)
            assert item_id not in ids(change)
            assert change.overlap == pytest.approx(np.isin(before, ids(change)).mean())
            if len(gone) > 1:  # one less does not
                fewer = RecommendRequest(history=History(item_ids=without(history, gone[:-1])), k=6)
                assert item_id in ids(recommend(server, fewer))
    assert found > 3


def test_nothing_brings_back_what_filters_leave_out(server: Running, items: Items) -> None:
    asked = asking(items)
    seen = asked.history.item_ids[0]
    for by in ({"any_control": True}, {"control": horror()}):
        change = explain(server, request=asked, change=ChangeQuery(item_id=seen, **cast(Any, by))).change
        assert change == Change(status=CHANGE_STATUS_NOT_FOUND)


def test_nothing_takes_an_item_off_a_list_of_all(server: Running, items: Items) -> None:
    asked = asking(items, events=3, k=60)
    for by in ({"any_control": True}, {"control": horror()}, {"events": True}):
        change = explain(server, request=asked, change=ChangeQuery(item_id=items.ids[0], **cast(Any, by))).change
        assert (change.status, change.was_in_list) == (CHANGE_STATUS_NOT_FOUND, True)


@pytest.mark.parametrize(
    ("fields", "field", "why"),
    [
        ({"request": RecommendRequest(k=5000)}, "request.k", "at most"),
        ({"request": RecommendRequest(controls=[horror(float("nan"))])}, "request.controls[0].strength", "nan"),
        (
            {"request": RecommendRequest(session_id="a", new_events=[Event(event_id="1", item_id="100")])},
            "request.new_events",
            "changes nothing",
        ),
        ({"item_ids": ["100", "nowhere"]}, "item_ids[1]", "unknown item 'nowhere'"),
        ({"item_ids": [""]}, "item_ids[0]", "unknown item"),
        ({"item_ids": ["100"] * 101}, "item_ids", "at most 100"),
        ({"top_features": 101}, "top_features", "at most 100"),
        ({"top_features": 2**32 - 1}, "top_features", "at most 100"),
        ({"change": ChangeQuery(events=True)}, "change.item_id", "unknown item ''"),
        ({"change": ChangeQuery(item_id="x" * 500, events=True)}, "change.item_id", "unknown item"),
        ({"change": ChangeQuery(item_id="100")}, "change", "give one of them"),
        ({"change": ChangeQuery(item_id="100", any_control=False)}, "change.any_control", "is false"),
        ({"change": ChangeQuery(item_id="100", events=False)}, "change.events", "is false"),
        ({"change": ChangeQuery(item_id="100", control=Control())}, "change.control", "names no feature"),
        (
            {"change": ChangeQuery(item_id="100", control=Control(concept=HORROR, operation=OPERATION_SET))},
            "change.control.operation",
            "takes ADD only",
        ),
        (
            {"change": ChangeQuery(item_id="100", control=Control(concept="?", operation=OPERATION_ADD))},
            "change.control.concept",
            "unknown concept",
        ),
        ({"change": ChangeQuery(item_id="100", control=horror(float("nan")))}, "change.control.strength", "nan"),
        ({"change": ChangeQuery(item_id="100", control=horror(1e9))}, "change.control.strength", "not between"),
        (
            {
                "change": ChangeQuery(
                    item_id="100",
                    control=Control(concept=HORROR, operation=OPERATION_ADD, goal=Goal(least_overlap=0.5)),
                )
            },
            "change.control.goal",
            "leave it out",
        ),
    ],
)
def test_what_is_wrong_is_named(server: Running, fields: dict[str, Any], field: str, why: str) -> None:
    failed = wrong(server, **fields)
    assert why in failed.fields[field]


def test_a_control_of_a_change_adds(server: Running, bundle: Bundle) -> None:
    feature = int(np.flatnonzero(bundle.features["scale"].to_numpy())[0])
    for operation, strength in ((OPERATION_SET, 1.0), (OPERATION_SCALE, 1.0), (OPERATION_ABLATE, 0.0)):
        control = on_feature(bundle, feature, operation, strength)
        failed = wrong(server, change=ChangeQuery(item_id="100", control=control))
        assert "must be ADD" in failed.fields["change.control.operation"]


def test_a_feature_of_another_bundle(server: Running) -> None:
    control = Control(feature=FeatureRef(id=1, bundle_version="old"), operation=OPERATION_ADD, strength=1)
    request = ExplainRequest(change=ChangeQuery(item_id="100", control=control))
    failed = failure(ExplanationServiceStub(server.channel).Explain, request)
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.metadata["field"] == "change.control.feature.bundle_version"


def test_events_of_an_item_that_is_not_listed(server: Running, items: Items) -> None:
    asked = asking(items)
    failed = wrong(server, request=asked, change=ChangeQuery(item_id=asked.history.item_ids[0], events=True))
    assert "not in the list" in failed.fields["change.events"]


async def test_a_bundle_without_directions_is_not_explainable(bundle: Bundle) -> None:
    old = dataclasses.replace(bundle, decoder_FD=None)
    release = cast(Any, type("Release", (), {"bundle": old}))
    service = ExplanationService(cast(Any, type("Recommendation", (), {"release": release})))
    with pytest.raises(NotExplainable, match="train it again") as refused:
        await service.Explain(ExplainRequest(), Caller())
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "NOT_EXPLAINABLE")


class CountingQueue(Batcher):
    """Notes how many requests are under way."""

    under_way = most = asked = 0

    async def submit(
        self, request: EngineRequest, deadline: float = float("inf"), tenant: str = "", session: str = ""
    ) -> EngineResult:
        self.under_way += 1
        self.asked += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().submit(request, deadline, tenant, session)
        finally:
            self.under_way -= 1


async def test_a_call_fills_half_of_the_queue_at_most(
    bundle: Bundle, bundle_dir: Path, items: Items, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, bundle_dir, queue_size=6)
    engine = Engine(Graphs(bundle, load_backend(bundle, "onnx", "cpu", 1)))
    queue = CountingQueue(engine, queue_size=6, max_batch=4)
    change = ListChange(queue, 0.0, lambda share: None)
    release, sessions = Release.of(bundle, settings), cast(Any, None)
    metrics, placements = Metrics(collected=False), cast(Any, None)
    recommendation = RecommendationService(release, queue, sessions, settings, metrics, change, placements)
    request = ExplainRequest(
        request=asking(items),
        event_influence=True,
        change=ChangeQuery(item_id=asking(items, seed=1).history.item_ids[0], any_control=True),
    )
    response = await ExplanationService(recommendation).Explain(request, Caller())
    assert response.recommendation.items
    assert queue.asked >= 2 + 12
    assert queue.most == 3
    passed = Caller(deadline=0.0)
    with pytest.raises(DeadlinePassed):
        await ExplanationService(recommendation).Explain(request, passed)
    assert queue.under_way == 0
    await queue.close()
