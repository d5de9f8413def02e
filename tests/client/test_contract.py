"""Every RPC of the contract, and every field of its answers, at a server that has all of them."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1 import control_pb2 as control_pb
from steersman.v1 import explanation_service_pb2 as explanation_pb
from steersman.v1 import feature_service_pb2 as features_pb
from steersman.v1 import item_service_pb2 as items_pb
from steersman.v1 import model_service_pb2 as model_pb
from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1 import release_service_pb2 as releases_pb
from steersman.v1 import scenario_service_pb2 as scenarios_pb
from steersman.v1 import session_service_pb2 as sessions_pb
from steersman_client import (
    Account,
    AppendResult,
    AsyncClient,
    Attribute,
    AttributeTarget,
    BundleSummary,
    CallError,
    Change,
    ChangeQuery,
    Client,
    Composition,
    Concept,
    ConceptTarget,
    Control,
    Event,
    Explanation,
    Feature,
    FeatureTarget,
    Filters,
    Goal,
    ItemsTarget,
    LeastShare,
    ModelInfo,
    Neighbours,
    PolicyRule,
    Receipt,
    Recommendation,
    Release,
    Request,
    SampleHistory,
    Scenario,
    ScenarioChange,
    ScenarioReplay,
    Session,
    WordsTarget,
    at_least,
    at_most,
    concept,
    divergence,
    feature,
    items,
    overlap,
    tilt,
    words,
)
from tests.client.fake import FakeServer, contract

REFERENCE = Feature.of(features_pb.Feature(id=3), "v1")
EVERY: dict[str, Callable[[Any], Any]] = {
    "RecommendationService/Recommend": lambda c: c.recommend(["a"]),
    "RecommendationService/BatchRecommend": lambda c: c.batch_recommend([Request(["a"]), Request(["b"])]),
    "ExplanationService/Explain": lambda c: c.explain(["a"], item_ids=["b"]),
    "FeatureService/ListFeatures": lambda c: c.features("x", steerable_only=True, kind="anchored", item_ids=["a"]),
    "FeatureService/GetFeature": lambda c: c.feature(3, version="v1"),
    "FeatureService/SetLabel": lambda c: c.set_label(REFERENCE, "Crime", author="me"),
    "FeatureService/ListConcepts": lambda c: c.concepts("x"),
    "FeatureService/ListNeighbours": lambda c: c.neighbours(REFERENCE, size=4),
    "ItemService/ListItems": lambda c: c.items("alien"),
    "ItemService/ListAttributes": lambda c: c.attributes("genres", text="h", values=3),
    "SessionService/AppendEvents": lambda c: c.append_events("s", ["a", Event("b", "disliked")]),
    "SessionService/GetSession": lambda c: c.session("s", max_item_ids=3),
    "SessionService/SetControls": lambda c: c.set_controls("s", {"genres:Horror": 1}),
    "SessionService/DeleteSession": lambda c: c.delete_session("s"),
    "ScenarioService/ListScenarios": lambda c: c.scenarios(),
    "ScenarioService/GetScenario": lambda c: c.scenario("home"),
    "ScenarioService/PutScenario": lambda c: c.put_scenario(Scenario("home"), author="me"),
    "ScenarioService/DeleteScenario": lambda c: c.delete_scenario("home", version=2, author="me"),
    "ScenarioService/ListScenarioChanges": lambda c: c.scenario_changes("home"),
    "ScenarioService/ReplayScenarios": lambda c: c.replay_scenarios(["home"]),
    "ModelService/GetModelInfo": lambda c: c.model_info(),
    "ModelService/ListHistories": lambda c: c.histories("x", seed=3),
    "ModelService/ListBundles": lambda c: c.bundles(),
    "ReleaseService/ListReleases": lambda c: c.releases(),
    "ReleaseService/LoadRelease": lambda c: c.load_release("b", channel="canary", canary_share=0.25),
    "ReleaseService/SetCanaryShare": lambda c: c.set_canary_share(0.5),
    "ReleaseService/PromoteCanary": lambda c: c.promote_canary("v2"),
    "ReleaseService/RollBack": lambda c: c.roll_back(),
}

ASK_NOTHING = (
    *("ModelService/GetModelInfo", "ModelService/ListBundles"),
    *("ReleaseService/ListReleases", "ReleaseService/RollBack"),
)


def test_every_rpc_has_a_method() -> None:
    assert {*EVERY} == {*contract()}


@pytest.mark.parametrize("method", EVERY)
async def test_both_clients_send_the_same(method: str, fake: FakeServer) -> None:
    with Client(fake.address, timeout=60) as client:
        answer = EVERY[method](client)
        if isinstance(answer, Iterator):
            assert [*answer] == []
    async with AsyncClient(fake.address, timeout=60) as asynchronous:
        answer = EVERY[method](asynchronous)
        if hasattr(answer, "__aiter__"):
            assert [each async for each in answer] == []
        else:
            await answer
    first, second = fake.asked
    assert first.method == second.method == method
    for request in (first.request, second.request):
        for event in getattr(request, "events", ()):
            event.ClearField("event_id")
    assert first.request == second.request
    # Nothing that was given got lost.
    assert all(value for _, value in first.request.ListFields())
    assert len(first.request.ListFields()) >= (method not in ASK_NOTHING)


def test_a_request_has_every_field(fake: FakeServer) -> None:
    with Client(fake.address, timeout=60) as client:
        client.recommend(
            ["a", "b"],
            controls=[words("slow crime", 0.5)],
            k=3,
            filters=Filters(True, ["a"], ["b"], {"genres": ["Horror"]}),
            events_before=4,
            session_id="s",
            fallback_history=["c"],
            new_events=[Event("d", "shown", event_id="e", time=datetime(2026, 1, 2, tzinfo=UTC))],
            min_session_version=7,
            scenario="home",
            composition=Composition(0.3, {"genres": 2}, ["p"], [LeastShare(ItemsTarget(("q",)), 0.5)]),
            receipt=True,
            ignore_dislikes=True,
            request_id="r",
            parts=["edits", "attributes"],
        )
    (request,) = fake.requests
    assert {field.name for field, _ in request.ListFields()} == {*pb.RecommendRequest.DESCRIPTOR.fields_by_name}
    assert {field.name for field, _ in request.filters.ListFields()} == {*pb.Filters.DESCRIPTOR.fields_by_name}
    assert {field.name for field, _ in request.composition.ListFields()} == {*pb.Composition.DESCRIPTOR.fields_by_name}
    assert (request.history.events_before, request.fallback_history.events_before) == (4, 4)
    assert request.new_events[0].time.ToDatetime(UTC) == datetime(2026, 1, 2, tzinfo=UTC)
    assert request.new_events[0].kind == sessions_pb.EVENT_KIND_SHOWN
    assert list(request.parts) == [pb.ANSWER_PART_EDITS, pb.ANSWER_PART_ATTRIBUTES]


def test_a_part_that_is_none_is_refused(fake: FakeServer) -> None:
    with Client(fake.address, timeout=60) as client, pytest.raises(ValueError, match="'edit' is none; known: edits"):
        client.recommend(["a"], parts=["edit"])  # type: ignore[list-item]
    assert not fake.requests


# -- answers

OTHER_NAMES = {"Session.time_to_live": "seconds_to_live", "LeastShare.items": "of", "SampleHistory.history": "item_ids"}
OWN_CHECKS = {
    *("google.protobuf.Duration", "google.protobuf.Timestamp"),
    *("steersman.v1.Control", "steersman.v1.Policy"),  # test_a_control_comes_back_..., test_a_scenario_comes_back_...
}


@pytest.mark.parametrize(
    ("message", "read"),
    [
        (pb.RecommendResponse, Recommendation.of),
        (pb.Receipt, Receipt.of),
        (explanation_pb.ExplainResponse, Explanation.of),
        (explanation_pb.Change, Change.of),
        (features_pb.Feature, lambda message: Feature.of(message, "v1")),
        (features_pb.Concept, Concept.of),
        (features_pb.ListNeighboursResponse, Neighbours.of),
        (items_pb.Attribute, Attribute.of),
        (sessions_pb.AppendEventsResponse, AppendResult.of),
        (sessions_pb.Session, Session.of),
        (scenarios_pb.Scenario, Scenario.of),
        (scenarios_pb.ScenarioChange, ScenarioChange.of),
        (scenarios_pb.ScenarioReplay, ScenarioReplay.of),
        (model_pb.GetModelInfoResponse, ModelInfo.of),
        (model_pb.SampleHistory, SampleHistory.of),
        (model_pb.BundleSummary, BundleSummary.of),
        (releases_pb.Release, Release.of),
    ],
)
def test_no_field_of_an_answer_is_lost(message: Any, read: Callable[[Any], Any]) -> None:
    """Every field is set; what is read of it has one of that name that is not empty."""
    whole = filled(message())
    check(whole, read(whole))


def filled(message: Any) -> Any:
    """Sets every field, of a oneof the last."""
    for number, field in enumerate(message.DESCRIPTOR.fields, 1):
        value = getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            value["name"] = 0.5
        elif field.is_repeated:
            if field.message_type:
                filled(value.add())
            else:
                value.append(example(field, number))
        elif field.message_type:
            filled(value)
            value.SetInParent()
        else:
            setattr(message, field.name, example(field, number))
    return message


def example(field: FieldDescriptor, number: int) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return f"{field.name} {number}"
    return field.cpp_type == FieldDescriptor.CPPTYPE_BOOL or number


def check(message: Any, answer: Any) -> None:
    assert is_dataclass(answer)
    names = {field.name for field in fields(answer)}
    for field, value in message.ListFields():
        name = OTHER_NAMES.get(f"{message.DESCRIPTOR.name}.{field.name}", field.name)
        assert name in names, f"{message.DESCRIPTOR.full_name}.{field.name}"
        read = getattr(answer, name)
        assert read, f"{message.DESCRIPTOR.full_name}.{field.name} was lost"
        if field.message_type is None or field.message_type.full_name in OWN_CHECKS:
            continue
        parts = [value] if not field.is_repeated else value
        for part, own in zip(parts, read if isinstance(read, tuple) else [read], strict=False):
            if is_dataclass(own):
                check(part, own)


# -- controls and goals

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SHARE = st.floats(0, 1, width=32)
TARGETS = st.one_of(
    st.builds(ConceptTarget, TEXT),
    st.builds(FeatureTarget, st.integers(0, 2**32 - 1), TEXT),
    st.builds(AttributeTarget, TEXT, TEXT),
    st.builds(ItemsTarget, st.lists(TEXT).map(tuple)),
    st.builds(WordsTarget, TEXT),
)
COUNTED = st.one_of(st.none(), TARGETS.filter(lambda target: not isinstance(target, FeatureTarget | WordsTarget)))
GOALS = st.one_of(
    st.builds(Goal, at_least=SHARE, of=COUNTED),
    st.builds(Goal, at_most=SHARE, of=COUNTED),
    st.builds(Goal, overlap=SHARE),
    st.builds(Goal, divergence=SHARE),
)


@settings(deadline=None)
@given(
    st.builds(
        Control,
        TARGETS,
        st.floats(width=32, allow_nan=False),
        operation=st.sampled_from(["add", "set", "scale", "ablate"]),
        goal=st.none() | GOALS,
    )
)
def test_a_control_comes_back_as_it_was_sent(control: Control) -> None:
    assert Control.of(control_pb.Control.FromString(control.message().SerializeToString())) == control


def test_constructors() -> None:
    assert concept("genres:Horror", 0.8).message() == control_pb.Control(
        concept="genres:Horror", operation=control_pb.OPERATION_ADD, strength=0.8
    )
    assert feature(REFERENCE, operation="ablate") == Control(FeatureTarget(3, "v1"), operation="ablate")
    assert feature(3, 0.5, version="v2") == Control(FeatureTarget(3, "v2"), 0.5)
    assert tilt("year", strength=1.0) == Control(AttributeTarget("year"), 1.0)
    assert items(["a", "b"], 0.5) == Control(ItemsTarget(("a", "b")), 0.5)
    horror = concept("genres:Horror", goal=at_least(0.4)).message().goal.share
    assert (horror.WhichOneof("bound"), horror.WhichOneof("of")) == ("at_least", None)
    assert at_most(0.0, attribute=("genres", "War")).message().share.WhichOneof("bound") == "at_most"
    assert at_least(0.2, items=["a"]).message().share.items.item_ids == ["a"]
    assert overlap(0.7).message().least_overlap == pytest.approx(0.7)
    assert divergence(0.1).message().most_divergence == pytest.approx(0.1)
    with pytest.raises(ValueError, match="counts one thing"):
        at_least(0.2, concept="a", items=["b"])


# -- lists beside each other


def listed(*item_ids: str, share: float | None = None) -> pb.RecommendResult:
    response = pb.RecommendResponse(items=[pb.RecommendedItem(item_id=each, title=each.upper()) for each in item_ids])
    if share is not None:
        response.receipt.controls.add(share_after=share)
    return pb.RecommendResult(response=response)


def test_compare_tells_what_changed(fake: FakeServer) -> None:
    answer = pb.BatchRecommendResponse(results=[listed("a", "b", "c", "d"), listed("b", "x", "c", "a")])
    fake.answers["RecommendationService/BatchRecommend"] = [answer]
    with Client(fake.address, timeout=60) as client:
        found = client.compare(["h"], controls={"genres:Horror": 1.0}, k=4, scenario="home", receipt=True)
    (request,) = fake.requests
    plain, steered = request.requests
    assert (len(plain.controls), len(steered.controls)) == (0, 1)
    assert (plain.receipt, steered.receipt) == (False, True)
    assert (list(plain.parts), list(steered.parts)) == ([], [])
    assert (plain.scenario, plain.k, plain.history) == (steered.scenario, steered.k, steered.history)
    assert [item.item_id for item in found.entered] == ["x"]
    assert [item.item_id for item in found.left] == ["d"]
    assert [(each.item.item_id, each.rank_before, each.rank_after) for each in found.moved] == [
        ("b", 2, 1),
        ("a", 1, 4),
    ]
    assert found.overlap == 0.75
    assert found.frame().rows() == [
        ("b", "B", 2, 1),
        ("x", "X", None, 2),
        ("c", "C", 3, 3),
        ("a", "A", 1, 4),
        ("d", "D", 4, None),
    ]


def test_sweep_is_one_call(fake: FakeServer) -> None:
    answer = pb.BatchRecommendResponse(
        results=[listed("a", "b"), listed("a", "x", share=0.5), listed("y", "x", share=1)]
    )
    fake.answers["RecommendationService/BatchRecommend"] = [answer]
    with Client(fake.address, timeout=60) as client:
        swept = client.sweep(concept("genres:Horror"), [0.5, 1.0], ["h"], controls={"genres:War": 0.1}, k=2)
    (request,) = fake.requests
    assert [[control.strength for control in each.controls] for each in request.requests] == [
        [pytest.approx(0.1)],
        [pytest.approx(0.1), 0.5],
        [pytest.approx(0.1), 1.0],
    ]
    assert [list(each.history.item_ids) for each in request.requests] == [["h"]] * 3
    assert swept.overlaps == (0.5, 0.0)
    table = swept.frame()
    assert table["share"].to_list() == [0.5, 0.5, 1, 1]
    assert table["item_id"].to_list() == ["a", "x", "y", "x"]


def test_a_request_that_is_refused_in_a_batch(fake: FakeServer) -> None:
    wrong = pb.FieldProblem(field="k", description="too large")
    failure = pb.RequestFailure(code=3, message="k: too large", reason="INVALID_REQUEST", fields=[wrong])
    refused = pb.RecommendResult(failure=failure)
    fake.answers["RecommendationService/BatchRecommend"] = [pb.BatchRecommendResponse(results=[listed("a"), refused])]
    with Client(fake.address, timeout=60) as client:
        answer, error = client.batch_recommend([Request(["a"]), Request(["b"], k=10**6)])
        assert isinstance(answer, Recommendation)
        assert isinstance(error, CallError)
        assert (error.code, error.fields, error.retry_seconds) == ("INVALID_ARGUMENT", {"k": "too large"}, None)
        with pytest.raises(CallError, match="k: too large"):
            client.compare(["a"])


# -- explanations


def test_explain(fake: FakeServer) -> None:
    account = explanation_pb.Account(
        item_id="a", title="A", rank=1, score=6.0, other_features=0.5, unexplained=1, bias=0.5
    )
    account.features.add(feature_id=3, label="Horror", amount=1.5)
    account.features.add(feature_id=4, label="Horror", amount=1.0)
    account.controls.append(1.5)
    fake.answers["ExplanationService/Explain"] = [explanation_pb.ExplainResponse(accounts=[account], method="exact")]
    with Client(fake.address, timeout=60) as client:
        query = ChangeQuery("b", control=concept("genres:Horror", 1))
        explained = client.explain(
            ["h"], controls={"genres:Horror": 0.5}, k=1, item_ids=["b"], top_features=1, change=query
        )
    (request,) = fake.requests
    assert (request.request.k, request.item_ids, request.top_features) == (1, ["b"], 1)
    assert (request.change.item_id, request.change.control.concept) == ("b", "genres:Horror")
    (found,) = explained.accounts
    assert isinstance(found, Account)
    assert sum(amount for _, amount in found.parts) == found.score
    assert len(dict(found.parts)) == len(found.parts)
    assert explained.frame()["amount"].sum() == found.score
    assert (explained.change, explained.method) == (None, "exact")


@pytest.mark.parametrize(
    ("query", "by"),
    [
        (ChangeQuery("a", concept("genres:Horror")), "control"),
        (ChangeQuery("a", any_control=True), "any_control"),
        (ChangeQuery("a", events=True), "events"),
    ],
)
def test_what_would_change_an_item(query: ChangeQuery, by: str) -> None:
    assert query.message().WhichOneof("by") == by


# -- scenarios


def test_a_scenario_comes_back_as_it_was_put() -> None:
    scenario = Scenario(
        "home",
        version=3,
        description="second row",
        controls=(concept("genres:Horror", 0.5),),
        filters=Filters(deny_item_ids=("a",)),
        composition=Composition(0.25, {"genres": 2}, ("p",), (LeastShare(AttributeTarget("genres", "War"), 0.5),)),
        policy=(PolicyRule("genres:*", most_strength=0.5), PolicyRule(attribute=AttributeTarget("year"))),
    )
    assert Scenario.of(scenario.message()) == scenario
    assert not Scenario("home").message().HasField("policy")
    nothing_allowed = Scenario("home", policy=[]).message()
    assert nothing_allowed.HasField("policy")
    assert not nothing_allowed.policy.rules
    rules = [PolicyRule(any_feature=True), PolicyRule(any_items_or_words=True)]
    assert [rule.message().WhichOneof("target") for rule in rules] == ["any_feature", "any_items_or_words"]
