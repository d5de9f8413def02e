"""Tilts by attributes, over gRPC: exactly what is asked for is added to scores, and to nobody else's."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import grpc
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.control_pb2 import (
    CONTROL_SOURCE_REQUEST,
    CONTROL_SOURCE_SESSION,
    OPERATION_ABLATE,
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_SET,
    OPERATION_UNSPECIFIED,
    AttributeRef,
    Control,
    FeatureRef,
    Operation,
)
from steersman.v1.recommendation_service_pb2 import Filters, History, RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest, SetControlsRequest
from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.bundle.items import Items
from steersman_service.steering.tilts import tilts
from tests.serving import Failure, Running, failure, serving, settings_for

EVERYTHING: dict[str, Any] = {"k": 60, "filters": Filters(include_seen=True)}
CONCEPT = Control(concept="genres:War", operation=OPERATION_ADD, strength=0.7)


def tilt(name: str, value: str = "", strength: float = 1.0, operation: Operation = OPERATION_ADD) -> Control:
    return Control(attribute=AttributeRef(name=name, value=value), operation=operation, strength=strength)


def ask(server: Running, *controls: Control, **fields: Any) -> RecommendResponse:
    return server.recommendation.Recommend(RecommendRequest(controls=controls, **{**EVERYTHING, **fields}))


def wrong(server: Running, *controls: Control) -> Failure:
    failed = failure(server.recommendation.Recommend, RecommendRequest(controls=controls))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    return failed


def scores(response: RecommendResponse, items: Items) -> Array:
    """By item row; minus infinity for items that did not come back."""
    scores_N = np.full(len(items), -np.inf)
    scores_N[items.rows(item.item_id for item in response.items)] = [item.score for item in response.items]
    return scores_N


def member(bundle: Bundle, genre: str) -> Array:
    return np.array([genre in (genres or ()) for genres in bundle.items["genres"].to_pylist()], np.float64)


@pytest.fixture(scope="module")
def torch_server(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(settings_for(tmp_path_factory.mktemp("torch"), bundle_dir, backend="torch")) as running:
        yield running


@pytest.fixture(params=["server", "torch_server"])
def tilted(request: pytest.FixtureRequest) -> Running:
    """A server of each backend."""
    server: Running = request.getfixturevalue(request.param)
    return server


@pytest.mark.parametrize("controls", [(), (CONCEPT,)])
def test_a_tilt_is_a_bias_on_scores_and_nothing_else(
    tilted: Running, bundle: Bundle, items: Items, controls: tuple[Control, ...]
) -> None:
    """The plain path: the scores of all items without the tilts, and the bias added here. A concept beside them stays what it was."""
    year_N = bundle.items["year"].to_numpy()
    standard_N = (year_N - year_N.mean()) / year_N.std()
    horror, war, old = tilt("genres", "Horror", 0.8), tilt("genres", "War", -2.5), tilt("year", strength=-1.5)
    bias_N = 0.8 * member(bundle, "Horror") - 2.5 * member(bundle, "War") - 1.5 * standard_N
    for length in (0, 3, 25):
        history = History(item_ids=items.ids[:length])
        plain = ask(tilted, *controls, history=history)
        response = ask(tilted, horror, *controls, war, old, history=history)
        wanted_N = scores(plain, items) + bias_N
        np.testing.assert_allclose(scores(response, items), wanted_N, rtol=1e-5, atol=1e-5)
        got = [item.score for item in response.items]
        assert got == sorted(got, reverse=True)
        of_concepts = [applied.edits for applied in response.applied_controls if applied.control.concept]
        for edits, before in zip(of_concepts, (applied.edits for applied in plain.applied_controls), strict=True):
            assert {e.feature_id: e.strength for e in edits} == pytest.approx(
                {e.feature_id: e.strength for e in before}, abs=1e-4
            )


def test_strength_is_the_logarithm_of_an_odds_ratio(server: Running, bundle: Bundle, items: Items) -> None:
    def odds(*controls: Control) -> float:
        weights_N = np.exp(scores(ask(server, *controls), items))
        horror_N = member(bundle, "Horror")
        return float((weights_N * horror_N).sum() / (weights_N * (1 - horror_N)).sum())

    assert odds(tilt("genres", "Horror", 1.0)) == pytest.approx(np.e * odds(), rel=1e-4)


def test_filters_hold_whatever_the_tilt(server: Running, items: Items) -> None:
    history = History(item_ids=items.ids[:5])
    allowed = items.ids[3:9]
    filters = Filters(allow_item_ids=allowed)
    response = ask(server, tilt("year", strength=10), history=history, filters=filters)
    assert sorted(item.item_id for item in response.items) == allowed[2:]


def test_the_order_of_controls_does_not_matter(server: Running, bundle: Bundle, items: Items) -> None:
    feature = int(np.flatnonzero(bundle.features["scale"].to_numpy())[0])
    edit = Control(
        feature=FeatureRef(id=feature, bundle_version=bundle.version), operation=OPERATION_SCALE, strength=2.0
    )
    controls = [tilt("genres", "Horror", 0.3), CONCEPT, tilt("year", strength=-0.7), edit, tilt("genres", "War", 1.1)]
    forth, back = ask(server, *controls), ask(server, *reversed(controls))
    np.testing.assert_allclose(scores(forth, items), scores(back, items), atol=1e-5)
    assert [applied.control for applied in forth.applied_controls] == controls
    assert [applied.control for applied in back.applied_controls] == controls[::-1]


def test_tilts_that_cancel_leave_the_answer_as_it_was(server: Running, items: Items) -> None:
    history = History(item_ids=items.ids[:4])
    cancelled = ask(server, tilt("year", strength=0.7), tilt("year", strength=-0.7), history=history)
    np.testing.assert_array_equal(scores(cancelled, items), scores(ask(server, history=history), items))


def test_a_tilt_comes_back_as_applied_and_without_edits(server: Running) -> None:
    given_control = tilt("genres", "Horror", 0.5)
    (applied,) = ask(server, given_control).applied_controls
    assert applied.control == given_control
    assert (applied.source, len(applied.edits)) == (CONTROL_SOURCE_REQUEST, 0)


def test_a_concept_comes_down_to_one_edit_of_a_feature_made_for_it(server: Running) -> None:
    (edit,) = ask(server, CONCEPT).applied_controls[0].edits
    assert edit.strength > 0
    assert edit.label.startswith(CONCEPT.concept.removeprefix("genres:"))


def test_a_session_keeps_tilts_and_is_answered_as_its_history(server: Running, items: Items) -> None:
    session_id, history = f"tilted-{uuid4()}", items.ids[:7]
    sticky, own = tilt("genres", "Horror", 1.5), tilt("year", strength=-0.5)
    events = [Event(event_id=item_id, item_id=item_id) for item_id in history]
    server.session.AppendEvents(AppendEventsRequest(session_id=session_id, events=events))
    server.session.SetControls(SetControlsRequest(session_id=session_id, controls=[sticky, CONCEPT]))
    kept = server.session.GetSession(GetSessionRequest(session_id=session_id)).session
    assert list(kept.controls) == [sticky, CONCEPT]
    from_session = ask(server, own, session_id=session_id)
    whole = ask(server, sticky, CONCEPT, own, history=History(item_ids=history))
    assert [item.item_id for item in from_session.items] == [item.item_id for item in whole.items]
    np.testing.assert_allclose(scores(from_session, items), scores(whole, items), atol=1e-5)
    sources = [applied.source for applied in from_session.applied_controls]
    assert sources == [CONTROL_SOURCE_SESSION, CONTROL_SOURCE_SESSION, CONTROL_SOURCE_REQUEST]
    refused = failure(
        server.session.SetControls, SetControlsRequest(session_id=session_id, controls=[tilt("genres", "Horor")])
    )
    assert refused.fields.keys() == {"controls[0].attribute.value"}
    server.session.SetControls(SetControlsRequest(session_id=session_id))
    plain = ask(server, session_id=session_id)
    np.testing.assert_allclose(
        scores(plain, items), scores(ask(server, history=History(item_ids=history)), items), atol=1e-5
    )


def test_a_mixed_batch_is_answered_as_single_calls(
    bundle_dir: Path, tmp_path: Path, items: Items, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    rng = np.random.default_rng(0)
    choices = [(), (CONCEPT,), (tilt("genres", "Horror", 2.0),), (tilt("year", strength=-1.0), CONCEPT)]
    requests = [
        RecommendRequest(
            history=History(item_ids=rng.choice(items.ids, rng.integers(20))), controls=choices[n % 4], **EVERYTHING
        )
        for n in range(16)
    ]
    with serving(settings_for(tmp_path, bundle_dir, max_batch=16)) as server:
        first = server.recommendation.Recommend.future(RecommendRequest())
        begun.wait()
        calls = [server.recommendation.Recommend.future(request) for request in requests]
        while "steersman_queue_depth 16.0" not in _metrics(server):
            pass
        go_on.set()
        first.result()
        for request, call in zip(requests, calls, strict=True):
            together, alone = call.result(), server.recommendation.Recommend(request)
            assert (together.timings.batch_size, alone.timings.batch_size) == (16, 1)
            np.testing.assert_allclose(scores(together, items), scores(alone, items), rtol=1e-5, atol=1e-5)


def _metrics(server: Running) -> str:
    with urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics") as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.parametrize(
    ("field", "named", "control"),
    [
        ("attribute.name", "did you mean genres?", tilt("genre", "Horror")),
        ("attribute.name", "known: genres, year", tilt("")),
        ("attribute.name", "known: genres, year", tilt("\N{GRINNING FACE}" * 10_000)),
        ("attribute.value", "did you mean Horror?", tilt("genres", "Horor")),
        ("attribute.value", "did you mean Horror?", tilt("genres", "horror")),
        ("attribute.value", "values are ", tilt("genres", "")),
        ("attribute.value", "values are ", tilt("genres", "\N{GRINNING FACE}" * 10_000)),
        ("attribute.value", "leave it empty", tilt("year", "1990")),
        ("operation", "ADD only", tilt("genres", "Horror", operation=OPERATION_SET)),
        ("operation", "ADD only", tilt("genres", "Horror", operation=OPERATION_SCALE)),
        ("operation", "ADD only", tilt("genres", "Horror", 0.0, OPERATION_ABLATE)),
        ("operation", "must be ADD", tilt("genres", "Horror", operation=OPERATION_UNSPECIFIED)),
        ("strength", "is not between", tilt("genres", "Horror", 10.1)),
        ("strength", "is not between", tilt("genres", "Horror", float("nan"))),
        ("strength", "is not between", tilt("year", strength=float("-inf"))),
    ],
)
def test_what_is_refused_names_the_field_and_what_would_be_right(
    server: Running, field: str, named: str, control: Control
) -> None:
    failed = wrong(server, CONCEPT, control)
    assert failed.fields.keys() == {f"controls[1].{field}"}
    assert named in failed.fields[f"controls[1].{field}"]


def items_with(*numbers: float | None) -> Items:
    size = len(numbers)
    return Items(
        pa.table(
            {
                "item_id": [f"{row:03}" for row in range(size)],
                "title": [""] * size,
                "number": pa.array(numbers, pa.float64()),
            }
        )
    )


def test_unknown_numbers_are_not_tilted() -> None:
    tilted_N = tilts([tilt("number", strength=2.0)], items_with(3.0, None, 1.0, float("nan"), float("inf"), 2.0))
    assert tilted_N is not None
    np.testing.assert_allclose(tilted_N, 2 * np.sqrt(1.5) * np.array([1, 0, -1, 0, 0, 0]), rtol=1e-6)


@pytest.mark.parametrize("numbers", [(), (None, None), (0.1, 0.1, 0.1), (0.0, None), (float("inf"), 2.0)])
def test_a_number_that_tells_no_items_apart_is_refused(numbers: tuple[float | None, ...]) -> None:
    assert "same for all" in items_with(*numbers).attributes["number"].why_no_tilt("")


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(), min_size=1, max_size=30))
def test_standard_scores_are_finite_and_in_order_whatever_the_numbers(numbers: list[float | None]) -> None:
    lean_N = np.zeros(len(numbers))
    items_with(*numbers).attributes["number"].tilt(lean_N, "", 1.0)
    assert np.isfinite(lean_N).all()
    values_N = np.array([np.nan if number is None else number for number in numbers])
    known_N = np.isfinite(values_N)
    assert not lean_N[~known_N].any()
    assert (np.diff(lean_N[known_N][np.argsort(values_N[known_N])]) >= 0).all()
    assert lean_N.any() == (len(set(values_N[known_N])) > 1)
