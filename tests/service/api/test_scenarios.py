"""Scenarios, policies and composition, over gRPC."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest

from steersman.v1.control_pb2 import (
    CONTROL_SOURCE_REQUEST,
    CONTROL_SOURCE_SCENARIO,
    CONTROL_SOURCE_SESSION,
    OPERATION_ADD,
    OPERATION_SET,
    AttributeRef,
    Control,
    FeatureRef,
    ItemSet,
)
from steersman.v1.recommendation_service_pb2 import (
    AttributeFilter,
    Composition,
    Filters,
    History,
    LeastShare,
    MostPerValue,
    RecommendRequest,
    RecommendResponse,
)
from steersman.v1.scenario_service_pb2 import (
    DeleteScenarioRequest,
    GetScenarioRequest,
    ListScenarioChangesRequest,
    ListScenariosRequest,
    Policy,
    PolicyRule,
    PutScenarioRequest,
    Scenario,
)
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest, SetControlsRequest
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.sessions import scenarios as module
from tests.serving import Failure, Running, failure, serving, settings_for

NAN = float("nan")


def horror(strength: float = 0.5) -> Control:
    return Control(concept="genres:Horror", operation=OPERATION_ADD, strength=strength)


def put(server: Running, author: str = "", **fields: Any) -> Scenario:
    return server.scenario.PutScenario(PutScenarioRequest(scenario=Scenario(**fields), author=author)).scenario


def refused(server: Running, **fields: Any) -> Failure:
    return failure(server.scenario.PutScenario, PutScenarioRequest(scenario=Scenario(**fields)))


def ask(server: Running, **fields: Any) -> RecommendResponse:
    return server.recommendation.Recommend(RecommendRequest(**fields))


def wrong(server: Running, **fields: Any) -> Failure:
    failed = failure(server.recommendation.Recommend, RecommendRequest(**fields))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    return failed


def ids(response: RecommendResponse) -> list[str]:
    return [item.item_id for item in response.items]


@pytest.fixture
def name() -> str:
    return f"test-{uuid4()}"


@pytest.fixture
def history(items: Items) -> History:
    return History(item_ids=items.ids[:5])


def genres(items: Items, value: str) -> set[str]:
    return {items.ids[row] for row in np.flatnonzero(items.attributes["genres"].having([value], len(items)))}


def test_a_scenario_is_kept_changed_and_deleted(server: Running, name: str) -> None:
    first = put(server, "ada", name=name, controls=[horror()], description="home")
    assert (first.version, first.updated_by) == (1, "ada")
    assert server.scenario.GetScenario(GetScenarioRequest(name=name)).scenario == first
    second = put(server, name=name, version=1)
    assert second.version == 2
    failed = refused(server, name=name, version=1)
    assert (failed.code, failed.reason) == (grpc.StatusCode.ABORTED, "VERSION_CONFLICT")
    assert failed.metadata["version"] == "2"
    assert refused(server, name=name).reason == "VERSION_CONFLICT"
    stale = DeleteScenarioRequest(name=name, version=1)
    assert failure(server.scenario.DeleteScenario, stale).reason == "VERSION_CONFLICT"
    delete = DeleteScenarioRequest(name=name, version=2, author="bo")
    assert server.scenario.DeleteScenario(delete).existed
    assert not server.scenario.DeleteScenario(delete).existed
    failed = failure(server.scenario.GetScenario, GetScenarioRequest(name=name))
    assert failed.code is grpc.StatusCode.NOT_FOUND
    changes = server.scenario.ListScenarioChanges(ListScenarioChangesRequest(name=name)).changes
    assert [(change.version, change.author) for change in changes] == [(2, "bo"), (2, ""), (1, "ada")]
    assert changes[2].scenario == first


def test_lists_come_in_pages(server: Running, name: str) -> None:
    for number in range(5):
        put(server, name=f"{name}-{number}", description="x" * 900)
    listed, token = [], ""
    while True:
        page = server.scenario.ListScenarios(ListScenariosRequest(page_size=2, page_token=token))
        listed += [scenario.name for scenario in page.scenarios]
        if not (token := page.next_page_token):
            break
    assert [one for one in listed if one.startswith(name)] == [f"{name}-{number}" for number in range(5)]
    assert len(listed) == len(set(listed)) == page.total_size
    first = server.scenario.ListScenarioChanges(ListScenarioChangesRequest(page_size=3))
    rest = server.scenario.ListScenarioChanges(ListScenarioChangesRequest(page_token=first.next_page_token))
    assert [change.name for change in (*first.changes, *rest.changes)][:5] == [f"{name}-{n}" for n in range(4, -1, -1)]
    of_list, of_changes = ListScenariosRequest, ListScenarioChangesRequest
    for call, request in (
        (server.scenario.ListScenarios, of_list(page_token=first.next_page_token)),
        (server.scenario.ListScenarioChanges, of_changes(page_token=first.next_page_token, name=name)),
        (server.scenario.ListScenarios, of_list(page_token="é?")),
        (server.scenario.ListScenarioChanges, of_changes(page_token="Y2hhbmdlIAp4")),
    ):
        assert failure(call, request).fields.keys() == {"page_token"}
    assert failure(server.scenario.ListScenarios, of_list(page_size=1001)).fields.keys() == {"page_size"}
    assert failure(server.scenario.ListScenarioChanges, of_changes(name="?")).fields.keys() == {"name"}


def test_what_is_put_is_checked_as_a_request_is(server: Running, bundle: Bundle, name: str) -> None:
    fields: list[tuple[dict[str, Any], str]] = [
        ({"name": ""}, "scenario.name"),
        ({"name": "a b"}, "scenario.name"),
        ({"name": "n" * 129}, "scenario.name"),
        ({"description": "é" * 501}, "scenario.description"),
        ({"controls": [Control(concept="genres:Horor", operation=OPERATION_ADD)]}, "scenario.controls[0].concept"),
        ({"controls": [horror(NAN)]}, "scenario.controls[0].strength"),
        ({"controls": [horror()] * 33}, "scenario.controls"),
        ({"filters": Filters(attributes=[AttributeFilter(attribute="genre", any_of=["a"])])}, "scenario.filters.attributes[0].attribute"),
        ({"composition": Composition(diversity=2)}, "scenario.composition.diversity"),
        (
            {"composition": Composition(pinned_item_ids=["1"]), "filters": Filters(deny_item_ids=["1"])},
            "scenario.composition.pinned_item_ids[0]",
        ),
        ({"policy": Policy(rules=[PolicyRule()])}, "scenario.policy.rules[0]"),
        ({"filters": Filters(deny_item_ids=["x" * 100] * 900)}, "scenario"),
    ]  # fmt: skip
    for changes, field in fields:
        failed = refused(server, **{"name": name, **changes})
        assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
        assert failed.fields.keys() == {field}
    failed = failure(server.scenario.PutScenario, PutScenarioRequest(scenario=Scenario(name=name), author="a" * 129))
    assert failed.fields.keys() == {"author"}
    assert failure(server.scenario.PutScenario, PutScenarioRequest()).fields.keys() == {"scenario.name"}
    stale = Control(feature=FeatureRef(id=1, bundle_version="0" * 64), operation=OPERATION_ADD)
    failed = refused(server, name=name, controls=[stale])
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FEATURE_OF_ANOTHER_BUNDLE")
    assert failed.metadata["field"] == "scenario.controls[0].feature.bundle_version"
    assert failure(server.scenario.GetScenario, GetScenarioRequest(name=name)).code is grpc.StatusCode.NOT_FOUND


def test_a_request_adds_to_its_scenario(server: Running, items: Items, name: str) -> None:
    session_id = str(uuid4())
    events = [Event(event_id=item_id, item_id=item_id) for item_id in items.ids[:5]]
    server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events))
    server.session.SetControls(SetControlsRequest(session_id=session_id, controls=[horror(0.2)]))
    put(server, name=name, controls=[horror(0.1)])
    answer = ask(server, session_id=session_id, scenario=name, controls=[horror(0.3)])
    applied = [(one.source, round(one.control.strength, 3)) for one in answer.applied_controls]
    assert applied == [
        (CONTROL_SOURCE_SCENARIO, 0.1),
        (CONTROL_SOURCE_SESSION, 0.2),
        (CONTROL_SOURCE_REQUEST, 0.3),
    ]
    assert answer.scenario_version == 1
    same = ask(server, session_id=session_id, controls=[horror(0.3), horror(0.1)])
    assert (ids(same), same.scenario_version) == (ids(answer), 0)


def test_filters_of_both_hold(server: Running, items: Items, history: History, name: str) -> None:
    some, others = items.ids[10:30], items.ids[20:40]
    war = AttributeFilter(attribute="genres", any_of=["War"])
    put(server, name=name, filters=Filters(allow_item_ids=some, deny_item_ids=some[-2:], attributes=[war]))
    ask_for = Filters(allow_item_ids=others, deny_item_ids=others[:2])
    answer = ask(server, history=history, scenario=name, filters=ask_for, k=60)
    assert set(ids(answer)) == (set(some) & set(others) & genres(items, "War")) - {*some[-2:], *others[:2]}
    assert answer.items
    assert not ask(server, history=history, scenario=name, filters=Filters(allow_item_ids=items.ids[:3])).items
    assert ids(ask(server, history=history, scenario=name, k=60)) == [
        item_id
        for item_id in ids(ask(server, history=history, k=60))
        if item_id in set(some[:-2]) & genres(items, "War")
    ]


def test_an_unknown_scenario_changes_nothing(server: Running, name: str) -> None:
    put(server, name=name)
    session_id = str(uuid4())
    request = {"session_id": session_id, "new_events": [Event(event_id="1", item_id="1")]}
    failed = wrong(server, scenario=f"{name}x", **request)
    assert name in failed.fields["scenario"]
    assert wrong(server, scenario="a b", **request).fields.keys() == {"scenario"}
    lost = failure(server.session.GetSession, GetSessionRequest(session_id=session_id))
    assert lost.code is grpc.StatusCode.NOT_FOUND


def test_a_policy_bounds_what_a_request_adds_and_not_what_a_session_holds(server: Running, name: str) -> None:
    session_id = str(uuid4())
    server.session.SetControls(SetControlsRequest(session_id=session_id, controls=[horror(0.9)]))
    put(server, name=name, policy=Policy(rules=[PolicyRule(concept="genres:*", most_strength=0.5)]))
    assert len(ask(server, session_id=session_id, scenario=name, controls=[horror(-0.5)]).applied_controls) == 2
    tilt = Control(attribute=AttributeRef(name="genres", value="War"), operation=OPERATION_ADD, strength=1)
    failed = wrong(server, session_id=session_id, scenario=name, controls=[horror(0.6), tilt])
    assert failed.fields.keys() == {"controls[0].strength", "controls[1]"}
    assert "at most 0.5" in failed.fields["controls[0].strength"]
    put(server, name=name, version=1, policy=Policy())
    assert "allows none" in wrong(server, scenario=name, controls=[horror()]).fields["controls[0]"]


def test_a_change_is_seen_at_once_where_it_was_made(
    server: Running, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH_SECONDS", 1000.0)
    put(server, name=name, controls=[horror()])
    assert ask(server, scenario=name).scenario_version == 1
    put(server, name=name, version=1)
    answer = ask(server, scenario=name)
    assert (answer.scenario_version, list(answer.applied_controls)) == (2, [])
    server.scenario.DeleteScenario(DeleteScenarioRequest(name=name))
    assert wrong(server, scenario=name).fields.keys() == {"scenario"}


def test_a_scenario_that_the_bundle_no_longer_fits_says_where(
    server: Running, bundle: Bundle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a retraining: put past the checks."""
    stale = Control(feature=FeatureRef(id=1, bundle_version="0" * 64), operation=OPERATION_ADD)
    gone = Control(concept="genres:Gone", operation=OPERATION_ADD, strength=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steersman_service.api.scenarios.read_scenario", lambda *arguments: (None, []))
        put(server, name=name, controls=[stale])
        put(server, name=f"{name}-2", controls=[gone])
    failed = failure(server.recommendation.Recommend, RecommendRequest(scenario=name))
    assert (failed.code, failed.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FEATURE_OF_ANOTHER_BUNDLE")
    assert wrong(server, scenario=f"{name}-2").fields.keys() == {"scenario.controls[0].concept"}
    # A replay of all scenarios, in another test on this server, would find them broken.
    for broken in (name, f"{name}-2"):
        server.scenario.DeleteScenario(DeleteScenarioRequest(name=broken))


def test_one_feature_is_set_once_in_all(server: Running, bundle: Bundle, name: str) -> None:
    feature = int(np.flatnonzero(bundle.features["scale"].to_numpy())[0])
    one = Control(feature=FeatureRef(id=feature, bundle_version=bundle.version), operation=OPERATION_SET, strength=0.5)
    put(server, name=name, controls=[one])
    failed = wrong(server, scenario=name, controls=[one])
    assert failed.fields.keys() == {"controls[0]"}
    assert "scenario.controls[0]" in failed.fields["controls[0]"]


def test_without_its_store_a_scenario_that_is_remembered_still_answers(
    bundle_dir: Path, tmp_path: Path, items: Items, history: History
) -> None:
    with serving(settings_for(tmp_path, bundle_dir, metrics="off")) as server:
        put(server, name="home", controls=[horror()])
        ask(server, scenario="home")
        pid = int((tmp_path / "valkey" / "valkey.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "FRESH_SECONDS", 0.0)
                answer = ask(server, scenario="home", history=history)
            assert answer.scenario_version == 1
            assert answer.applied_controls
            failed = failure(server.recommendation.Recommend, RecommendRequest(scenario="other"))
            assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_STORE_UNAVAILABLE")
            assert failure(server.scenario.ListScenarios, ListScenariosRequest()).code is grpc.StatusCode.UNAVAILABLE
        finally:
            os.kill(pid, signal.SIGCONT)


def test_pinned_items_come_first_with_their_own_scores(server: Running, items: Items, history: History) -> None:
    """Beyond the candidates, too, and under a concept that is solved on the request's own candidates."""
    whole = ask(server, history=history, controls=[horror(0.7)], k=60)
    scores = {item.item_id: item.score for item in whole.items}
    last, middle = ids(whole)[-1], ids(whole)[20]
    pinned = Composition(pinned_item_ids=[last, "?", items.ids[0], middle])
    answer = ask(server, history=history, controls=[horror(0.7)], k=4, composition=pinned)
    assert ids(answer) == [last, middle, *ids(whole)[:2]]
    assert [item.score for item in answer.items] == pytest.approx([scores[one] for one in ids(answer)], abs=1e-4)
    assert [note.split(":")[0] for note in answer.composition_notes] == [
        "pinned item '?'",
        f"pinned item '{items.ids[0]}'",
    ]
    assert answer.eligible_items == whole.eligible_items
    first = ask(server, history=history, k=1, composition=Composition(pinned_item_ids=[last, middle]))
    assert ids(first) == [last]


def test_a_least_share_reaches_beyond_the_candidates(server: Running, items: Items, history: History) -> None:
    whole = ids(ask(server, history=history, k=60))
    rare = min(("Comedy", "Crime", "Horror", "War"), key=lambda value: len(genres(items, value) & set(whole[:5])))
    share = LeastShare(attribute=AttributeRef(name="genres", value=rare), share=0.6)
    answer = ids(ask(server, history=history, k=5, composition=Composition(least_shares=[share])))
    of_rare = [item_id for item_id in whole if item_id in genres(items, rare)]
    others = [item_id for item_id in whole if item_id not in genres(items, rare)]
    assert sorted(answer, key=whole.index) == answer
    assert set(answer) == {*of_rare[:3], *others[:2]}
    given = LeastShare(items=ItemSet(item_ids=[whole[-1], whole[-2], "?"]), share=1)
    answer_2 = ask(server, history=history, k=5, composition=Composition(least_shares=[given]))
    assert set(ids(answer_2)) == {*whole[:3], *whole[-2:]}
    assert "2 of 5 items, 5 wanted" in answer_2.composition_notes[0]


def test_caps_and_diversity(server: Running, items: Items, history: History) -> None:
    plain = ask(server, history=history, k=8)
    capped = ask(
        server, history=history, k=8, composition=Composition(most_per_value=[MostPerValue(attribute="genres", most=2)])
    )
    counts = Counter(
        genre for genre in ("Comedy", "Crime", "Horror", "War") for one in ids(capped) if one in genres(items, genre)
    )
    assert len(capped.items) == 8
    assert sum(counts.values()) == 8 or capped.composition_notes
    assert ids(capped) != ids(plain)
    assert ids(capped)[0] == ids(plain)[0]
    varied = ask(server, history=history, k=8, composition=Composition(diversity=0.8))
    assert ids(varied)[0] == ids(plain)[0]
    assert len(set(ids(varied))) == 8
    assert ids(varied) != ids(plain)
    scores = {item.item_id: item.score for item in ask(server, history=history, k=60).items}
    assert [item.score for item in varied.items] == pytest.approx([scores[one] for one in ids(varied)], abs=1e-4)
    for nothing in (
        Composition(),
        Composition(least_shares=[LeastShare(attribute=AttributeRef(name="genres", value="War"))]),
    ):
        assert ask(server, history=history, k=8, composition=nothing).items == plain.items


def test_a_requests_composition_replaces_field_by_field(server: Running, history: History, name: str) -> None:
    whole = ids(ask(server, history=history, k=60))
    put(server, name=name, composition=Composition(pinned_item_ids=whole[-2:], diversity=1))
    answer = ids(ask(server, history=history, scenario=name, k=4))
    assert answer[:2] == whole[-2:]
    other = ids(ask(server, history=history, scenario=name, k=4, composition=Composition(pinned_item_ids=whole[-3:-2])))
    assert other[0] == whole[-3]
    assert other[1:] != whole[:3]  # still diverse
    denied = ask(server, history=history, scenario=name, k=4, filters=Filters(deny_item_ids=whole[-1:]))
    assert ids(denied)[0] == whole[-2]
    assert len(denied.composition_notes) == 1


def test_wrong_compositions_of_requests(server: Running) -> None:
    composition = Composition(diversity=NAN, most_per_value=[MostPerValue(attribute="year", most=0)])
    failed = wrong(server, composition=composition)
    assert failed.fields.keys() == {
        "composition.diversity",
        "composition.most_per_value[0].attribute",
        "composition.most_per_value[0].most",
    }


def test_no_item_is_eligible(server: Running, items: Items) -> None:
    composition = Composition(
        diversity=0.5, pinned_item_ids=["100"], most_per_value=[MostPerValue(attribute="genres", most=1)]
    )
    answer = ask(server, composition=composition, history=History(item_ids=items.ids))
    assert not answer.items
