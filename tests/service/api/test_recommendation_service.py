"""Recommend, over gRPC."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest

from steersman.v1.control_pb2 import (
    CONTROL_SOURCE_REQUEST,
    CONTROL_SOURCE_SESSION,
    OPERATION_ABLATE,
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_SET,
    Control,
    FeatureRef,
    Operation,
)
from steersman.v1.recommendation_service_pb2 import (
    DEGRADATION_SESSION_UNAVAILABLE,
    AttributeFilter,
    Filters,
    History,
    RecommendRequest,
    RecommendResponse,
)
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, SetControlsRequest
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from tests.serving import Failure, Running, failure, serving, settings_for

CONCEPT = "genres:Horror"


def ask(server: Running, **fields: Any) -> RecommendResponse:
    return server.recommendation.Recommend(RecommendRequest(**fields))


def wrong(server: Running, **fields: Any) -> Failure:
    """A request that is invalid: the fields that are named."""
    failed = failure(server.recommendation.Recommend, RecommendRequest(**fields))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.reason == "INVALID_REQUEST"
    return failed


def ids(response: RecommendResponse) -> list[str]:
    return [item.item_id for item in response.items]


def assert_same(one: RecommendResponse, other: RecommendResponse) -> None:
    assert ids(one) == ids(other)
    assert [item.score for item in one.items] == pytest.approx([item.score for item in other.items], abs=1e-5)


@pytest.fixture
def feature(bundle: Bundle) -> int:
    """One that is alive, and has no unit but its own."""
    units = [bundle.features[name].to_numpy() == 1 for name in ("unit_up", "unit_down")]
    return int(np.flatnonzero((bundle.features["scale"].to_numpy() > 0) & units[0] & units[1])[0])


@pytest.fixture
def session(server: Running, items: Items) -> str:
    """A session of 30 events, of which the server keeps 24; one of the kept ones is unknown."""
    session_id = f"test-{uuid4()}"
    history = [*items.ids[:29], "unknown"]
    events = [Event(event_id=str(n), item_id=item_id) for n, item_id in enumerate(history)]
    server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events))
    return session_id


def control(bundle: Bundle, feature: int, operation: Operation, strength: float = 0.0) -> Control:
    return Control(
        feature=FeatureRef(id=feature, bundle_version=bundle.version), operation=operation, strength=strength
    )


def horror(strength: float = 0.5) -> Control:
    return Control(concept=CONCEPT, operation=OPERATION_ADD, strength=strength)


def test_ten_unseen_items_best_first(server: Running, bundle: Bundle, items: Items) -> None:
    history = items.ids[:5]
    response = ask(server, history=History(item_ids=history), request_id="mine")
    assert len(response.items) == 10
    assert not set(ids(response)) & set(history)
    scores = [item.score for item in response.items]
    assert scores == sorted(scores, reverse=True)
    assert response.items[0].title == items.titles[items.ids.index(response.items[0].item_id)]
    assert (response.request_id, response.bundle_version) == ("mine", bundle.version)
    assert (response.eligible_items, response.session_version) == (len(items) - 5, 0)
    assert response.history_use.used_events == response.history_use.total_events == 5
    assert response.timings.batch_size >= 1
    assert response.timings.inference_ms > 0


def test_a_new_user_can_be_steered(server: Running) -> None:
    for request in ({}, {"history": History()}, {"session_id": f"new-{uuid4()}"}):
        plain, steered = ask(server, **request), ask(server, controls=[horror(1.0)], **request)
        assert plain.history_use.empty
        assert plain.request_id
        assert [item.score for item in plain.items] != [item.score for item in steered.items]


def test_unknown_items_are_skipped_and_counted(server: Running, items: Items) -> None:
    known = ask(server, history=History(item_ids=items.ids[:2]))
    mixed = ask(server, history=History(item_ids=["?", items.ids[0], "", items.ids[1], "é" * 256]))
    assert_same(known, mixed)
    use = mixed.history_use
    assert (use.total_events, use.used_events, use.unknown_events, use.empty) == (5, 2, 3, False)
    strangers = ask(server, history=History(item_ids=["?", "!"]))
    assert strangers.history_use.empty
    assert_same(strangers, ask(server))


def test_every_operation_comes_back_as_applied(server: Running, bundle: Bundle, feature: int) -> None:
    wanted = {OPERATION_ADD: (1, 0.5), OPERATION_SET: (0, 0.5), OPERATION_SCALE: (0.5, 0), OPERATION_ABLATE: (0, 0)}
    for operation, edit in wanted.items():
        given = control(bundle, feature, operation, 0.0 if operation == OPERATION_ABLATE else 0.5)
        (applied,) = ask(server, controls=[given]).applied_controls
        assert applied.control == given
        assert applied.source == CONTROL_SOURCE_REQUEST
        assert [(e.feature_id, e.gain, e.strength) for e in applied.edits] == [(feature, *edit)]
        assert applied.edits[0].label


def test_controls_that_were_seen_before_are_answered_and_refused_as_new_ones_are(
    server: Running, bundle: Bundle, session: str, feature: int
) -> None:
    one = control(bundle, feature, OPERATION_SET, 0.4321)
    first, second = (ask(server, session_id=session, controls=[one, horror(0.4321)]) for _ in range(2))
    applied, of_concept = first.applied_controls
    assert list(second.applied_controls) == [applied, of_concept]
    assert of_concept.edits
    server.session.SetControls(SetControlsRequest(session_id=session, controls=[one]))
    (sticky,) = ask(server, session_id=session).applied_controls
    assert (sticky.source, applied.source) == (CONTROL_SOURCE_SESSION, CONTROL_SOURCE_REQUEST)
    assert (sticky.control, sticky.edits) == (applied.control, applied.edits)
    assert wrong(server, session_id=session, controls=[one]).fields.keys() == {"controls[0]"}
    too_strong = control(bundle, feature, OPERATION_SET, 1e9)
    for _ in range(2):
        assert wrong(server, controls=[too_strong]).fields.keys() == {"controls[0].strength"}


@pytest.mark.parametrize("strength", [0.0, -0.0, 1e-38])
def test_a_concept_at_strength_zero_comes_down_to_no_edits_beside_others(server: Running, strength: float) -> None:
    history = History(item_ids=["103", "107", "111"])
    real = Control(concept=CONCEPT, operation=OPERATION_ADD, strength=1)
    nothing = Control(concept="genres:War", operation=OPERATION_ADD, strength=strength)
    plain, alone = ask(server, history=history), ask(server, history=history, controls=[real])
    for controls in ([nothing, real], [real, nothing]):
        answer = ask(server, history=history, controls=controls)
        assert_same(answer, alone)
        edits = {applied.control.concept: list(applied.edits) for applied in answer.applied_controls}
        assert edits["genres:War"] == []
        assert len(edits[CONCEPT]) == len(alone.applied_controls[0].edits) > 0
    answer = ask(server, history=history, controls=[nothing])
    assert_same(answer, plain)
    assert [list(applied.edits) for applied in answer.applied_controls] == [[]]


def test_a_concept_is_the_edits_that_it_comes_down_to(server: Running, bundle: Bundle) -> None:
    steered = ask(server, controls=[horror(0.1)])  # small: as requests, its edits must keep to the limit on strength
    edits = steered.applied_controls[0].edits
    assert edits
    assert {edit.gain for edit in edits} == {1.0}
    units: list[float] = bundle.features["unit_up"].to_pylist()  # type: ignore[assignment]  # horror turns its feature up
    by_hand = [
        control(bundle, edit.feature_id, OPERATION_ADD, edit.strength / units[edit.feature_id]) for edit in edits
    ]
    assert_same(steered, ask(server, controls=by_hand))


def test_edits_that_change_nothing_are_left_out(server: Running, bundle: Bundle, feature: int) -> None:
    plain = ask(server)
    for operation, strength in ((OPERATION_ADD, 0.0), (OPERATION_ADD, -0.0), (OPERATION_SCALE, 1.0)):
        answer = ask(server, controls=[control(bundle, feature, operation, strength)])
        assert [list(applied.edits) for applied in answer.applied_controls] == [[]]
        assert_same(answer, plain)
    for edit in ask(server, controls=[horror(1.0)]).applied_controls[0].edits:
        assert edit.strength != 0


def test_an_edit_says_if_it_is_beyond_the_natural_range(server: Running, bundle: Bundle, feature: int) -> None:
    given: list[tuple[Operation, float, bool]] = [
        (OPERATION_ADD, 2.0, False),
        (OPERATION_ADD, 2.01, True),
        (OPERATION_ADD, -2.5, True),
        (OPERATION_SET, 1.9, False),
        (OPERATION_SCALE, 3.0, False),
    ]
    answer = ask(server, controls=[control(bundle, feature, how, strength) for how, strength, _ in given])
    told = [edit.beyond_natural for applied in answer.applied_controls for edit in applied.edits]
    assert told == [beyond for *_, beyond in given], "each control by itself, whatever they add up to"


def test_edits_of_a_concept_come_strongest_first_and_say_if_they_are_beyond_the_natural_range(server: Running) -> None:
    edits = [
        edit
        for strength in (0.1, 1.0, 5.0)
        for edit in ask(server, controls=[horror(strength)]).applied_controls[0].edits
    ]
    assert {edit.beyond_natural for edit in edits} == {False, True}
    assert [edit.beyond_natural for edit in edits] == [abs(edit.strength) > 2 for edit in edits]
    magnitudes = [abs(edit.strength) for edit in ask(server, controls=[horror(5.0)]).applied_controls[0].edits]
    assert magnitudes == sorted(magnitudes, reverse=True)


def test_a_session_is_answered_as_its_whole_history(server: Running, items: Items, session: str) -> None:
    """Beyond the window (20), and beyond what the session keeps (24)."""
    whole = [*items.ids[:29], "unknown"]
    kept = whole[-24:]
    filters = Filters(include_seen=True)
    from_session = ask(server, session_id=session, filters=filters, k=40)
    assert_same(from_session, ask(server, history=History(item_ids=whole), filters=filters, k=40))
    assert_same(from_session, ask(server, history=History(item_ids=kept, events_before=6), filters=filters, k=40))
    use = from_session.history_use
    assert (use.total_events, use.used_events, use.unknown_events) == (30, 19, 1)
    assert from_session.session_version == 1
    # Without the count of dropped events, the window of a shortened history starts elsewhere.
    other = ask(server, history=History(item_ids=kept), filters=filters, k=40)
    assert [item.score for item in other.items] != [item.score for item in from_session.items]


def test_seen_items_are_those_of_the_history_not_of_the_window(server: Running, items: Items) -> None:
    response = ask(server, history=History(item_ids=items.ids[:50]), k=100)
    assert sorted(ids(response)) == sorted(items.ids[50:])


def test_sticky_controls_compose_with_those_of_the_request(
    server: Running, bundle: Bundle, session: str, feature: int
) -> None:
    sticky = control(bundle, feature, OPERATION_ADD, 0.5)
    server.session.SetControls(SetControlsRequest(session_id=session, controls=[sticky]))
    response = ask(server, session_id=session, controls=[sticky, horror()])
    sources = [applied.source for applied in response.applied_controls]
    assert sources == [CONTROL_SOURCE_SESSION, CONTROL_SOURCE_REQUEST, CONTROL_SOURCE_REQUEST]
    server.session.SetControls(SetControlsRequest(session_id=session))
    twice = control(bundle, feature, OPERATION_ADD, 1.0)
    assert_same(response, ask(server, session_id=session, controls=[twice, horror()]))


def test_new_events_are_appended_and_read_in_one_call(server: Running, items: Items, session: str) -> None:
    """As AppendEvents, then Recommend: for a session that grows beyond the window, and for one that begins with them."""
    other = f"test-{uuid4()}"
    for number in range(12):
        new = [Event(event_id=f"new {number}", item_id=items.ids[40 + number])]
        for session_id in (session, other):
            together = ask(server, session_id=session_id, new_events=new)
            repeated = server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=new))
            assert (repeated.appended, repeated.duplicates) == (0, 1)
            assert_same(together, ask(server, session_id=session_id))
            assert together.session_version == repeated.session_version == number + (2 if session_id == session else 1)
            assert together.history_use.total_events == repeated.total_events
            assert items.ids[40 + number] not in ids(together)
    history = History(item_ids=items.ids[40:52])
    assert_same(ask(server, session_id=other), ask(server, history=history))


def test_new_events_count_once(server: Running, items: Items, session: str) -> None:
    new = [Event(event_id="again", item_id=items.ids[50]), Event(event_id="29", item_id="whatever")]
    first, second = (ask(server, session_id=session, new_events=new) for _ in range(2))
    assert_same(first, second)
    assert first.history_use.total_events == second.history_use.total_events == 31


def test_wrong_new_events(server: Running, items: Items, session: str) -> None:
    good = Event(event_id="good", item_id=items.ids[50])
    assert wrong(server, new_events=[good]).fields.keys() == {"new_events"}
    assert wrong(server, session_id=session, new_events=[good] * 1001).fields.keys() == {"new_events"}
    bad = [good, Event(item_id="x" * 257)]
    assert wrong(server, session_id=session, new_events=bad).fields.keys() == {
        "new_events[1].event_id",
        "new_events[1].item_id",
    }
    # Nothing is appended by a call that is refused for something else.
    wrong(server, session_id=session, new_events=[good], k=10**6)
    assert ask(server, session_id=session).history_use.total_events == 30


def test_two_sets_on_one_feature(server: Running, bundle: Bundle, session: str, feature: int) -> None:
    one = control(bundle, feature, OPERATION_SET, 0.5)
    assert wrong(server, controls=[one, one]).fields.keys() == {"controls[1]"}
    server.session.SetControls(SetControlsRequest(session_id=session, controls=[one]))
    failed = wrong(server, session_id=session, controls=[horror(), one])
    assert "session.controls[0]" in failed.fields["controls[1]"]


def test_filters(server: Running, items: Items) -> None:
    allowed = items.ids[10:20]
    filters = Filters(allow_item_ids=[*allowed, "?"], deny_item_ids=[allowed[0], "!"])
    response = ask(server, history=History(item_ids=[allowed[1]]), filters=filters, k=50)
    assert sorted(ids(response)) == sorted(allowed[2:])
    assert (response.eligible_items, response.unknown_filter_ids) == (8, 2)
    everything = ask(server, filters=Filters(attributes=[AttributeFilter(attribute="genres", any_of=["War"])]), k=60)
    both = [
        AttributeFilter(attribute="genres", any_of=["War", "Horror"]),
        AttributeFilter(attribute="year", any_of=["1950", "1951.0", "1.953e3"]),
    ]
    few = ask(server, filters=Filters(attributes=both), k=60)
    assert 0 < len(few.items) <= 3
    assert 0 < len(everything.items) < len(items)
    none = ask(server, filters=Filters(allow_item_ids=items.ids[:1], deny_item_ids=items.ids[:1]))
    assert (len(none.items), none.eligible_items) == (0, 0)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("strength", [NAN, INFINITY, -INFINITY, 10.1, -10.1, 3e38])
def test_strengths_out_of_range(server: Running, strength: float) -> None:
    assert wrong(server, controls=[horror(), horror(strength)]).fields.keys() == {"controls[1].strength"}


def test_controls_that_say_too_little_or_too_much(server: Running, bundle: Bundle, feature: int) -> None:
    unknown = Control(concept="genres:Horor", operation=OPERATION_ADD)
    fresh = FeatureRef(id=feature)
    cases = {
        "controls[0]": Control(operation=OPERATION_ADD),
        "controls[0].operation": Control(concept=CONCEPT),
        "controls[0].concept": unknown,
        "controls[0].feature.bundle_version": Control(feature=fresh, operation=OPERATION_ADD),
        "controls[0].feature.id": control(bundle, bundle.manifest.shape.features, OPERATION_ADD),
        "controls[0].strength": control(bundle, feature, OPERATION_ABLATE, 1.0),
    }
    for field, given in cases.items():
        assert wrong(server, controls=[given]).fields.keys() == {field}
    assert CONCEPT in wrong(server, controls=[unknown]).fields["controls[0].concept"]
    assert bundle.version in wrong(server, controls=[cases["controls[0].feature.bundle_version"]]).message
    for operation in (OPERATION_SET, OPERATION_SCALE, OPERATION_ABLATE):
        given = Control(concept=CONCEPT, operation=operation)
        assert wrong(server, controls=[given]).fields.keys() == {"controls[0].operation"}
    assert wrong(server, controls=[control(bundle, feature, OPERATION_SCALE, -0.1)]).fields
    strange = Control(concept=CONCEPT, operation=17)  # type: ignore[arg-type]
    assert "controls[0].operation" in wrong(server, controls=[strange]).fields
    assert wrong(server, controls=[horror()] * 33).fields.keys() == {"controls"}


def test_requests_that_are_ambiguous_or_too_large(server: Running, items: Items) -> None:
    history = History(item_ids=items.ids[:1])
    assert wrong(server, history=history, session_id="s").fields.keys() == {"history"}
    assert wrong(server, fallback_history=history).fields.keys() == {"fallback_history"}
    for session_id in ("no spaces", "x" * 129, "ü", "a\n"):
        assert wrong(server, session_id=session_id).fields.keys() == {"session_id"}
    assert wrong(server, k=1001).fields.keys() == {"k"}
    assert wrong(server, request_id="é" * 65).fields.keys() == {"request_id"}
    assert wrong(server, history=History(item_ids=["1"] * 10_001)).fields.keys() == {"history.item_ids"}
    assert wrong(server, history=History(events_before=2**63)).fields.keys() == {"history.events_before"}
    assert wrong(server, filters=Filters(deny_item_ids=["1"] * 10_001)).fields.keys() == {"filters"}
    assert not ask(server, history=History(item_ids=items.ids * 160, events_before=2**40)).items


def test_a_tenant_is_neither_told_apart_nor_counted_by_name(server: Running) -> None:
    request = RecommendRequest(k=3)
    named = server.recommendation.Recommend(request, metadata=(("steersman-tenant", "acme"),))
    assert_same(named, server.recommendation.Recommend(request))
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics") as response:
        assert "acme" not in response.read().decode()
    failed = failure(server.recommendation.Recommend, request, metadata=(("steersman-tenant", "x" * 129),))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.fields == {"metadata steersman-tenant": "has 129 bytes; 0 to 128 are allowed"}


def test_attribute_filters_that_cannot_hold(server: Running) -> None:
    def filters(attribute: str, *values: str) -> Filters:
        return Filters(attributes=[AttributeFilter(attribute=attribute, any_of=values)])

    unknown = wrong(server, filters=filters("genre", "War")).fields
    assert "genres" in unknown["filters.attributes[0].attribute"]
    assert wrong(server, filters=filters("genres")).fields.keys() == {"filters.attributes[0].any_of"}
    for value in ("new", "", "nan", "inf"):
        failed = wrong(server, filters=filters("year", "1950", value))
        assert failed.fields.keys() == {"filters.attributes[0].any_of[1]"}


def test_a_bad_request_is_told_all_at_once_and_within_bounds(server: Running) -> None:
    failed = wrong(server, k=5000, controls=[horror(NAN)], filters=Filters(attributes=[AttributeFilter()]))
    assert failed.fields.keys() == {"k", "controls[0].strength", "filters.attributes[0].attribute"}
    # Trailers are limited to 8 KiB: a client must not lose the message of an error to its size.
    many = [Control(concept="\N{GRINNING FACE}" * 10_000, operation=OPERATION_SET, strength=99)] * 32
    huge = Filters(attributes=[AttributeFilter(attribute="\N{GRINNING FACE}" * 10_000)] * 50)
    failed = wrong(server, controls=many, filters=huge, request_id="\N{GRINNING FACE}" * 1000)
    assert "more" in failed.message


@pytest.fixture(scope="module")
def storeless(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose Redis is away."""
    folder = tmp_path_factory.mktemp("storeless")
    with serving(settings_for(folder, bundle_dir, redis_url=f"unix://{folder}/nobody.sock")) as running:
        yield running


def test_without_redis_the_fallback_is_used_and_said(storeless: Running, items: Items) -> None:
    history = History(item_ids=items.ids[:3])
    response = ask(storeless, session_id="s", fallback_history=history, controls=[horror()])
    assert list(response.degradations) == [DEGRADATION_SESSION_UNAVAILABLE]
    assert_same(response, ask(storeless, history=history, controls=[horror()]))
    empty = ask(storeless, session_id="s", fallback_history=History())
    assert empty.degradations


def test_without_redis_new_events_are_read_and_not_acknowledged(storeless: Running, items: Items) -> None:
    new = [Event(event_id="new", item_id=items.ids[9])]
    degraded = ask(storeless, session_id="s", fallback_history=History(item_ids=items.ids[:5]), new_events=new)
    assert degraded.degradations == [DEGRADATION_SESSION_UNAVAILABLE]
    assert_same(degraded, ask(storeless, history=History(item_ids=[*items.ids[:5], items.ids[9]])))
    failed = failure(storeless.recommendation.Recommend, RecommendRequest(session_id="s", new_events=new))
    assert failed.code is grpc.StatusCode.UNAVAILABLE


def test_without_redis_and_without_a_fallback(storeless: Running) -> None:
    failed = failure(storeless.recommendation.Recommend, RecommendRequest(session_id="s", request_id="r1"))
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_STORE_UNAVAILABLE")
    assert failed.retry_seconds
    assert failed.metadata["request_id"] == "r1"
    failed = failure(
        storeless.session.AppendEvents, AppendEventsRequest(session_id="s", events=[Event(event_id="1", item_id="1")])
    )
    assert failed.code is grpc.StatusCode.UNAVAILABLE
