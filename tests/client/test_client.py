"""Clients of a real server: what they send, what they give, and what they raise."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_client import (
    AsyncClient,
    CallError,
    Client,
    ConceptTarget,
    Event,
    Filters,
    LocalClient,
    Request,
    calls,
    concept,
    feature,
    frame,
    tilt,
)
from tests.serving import Running

HISTORY = ["101", "102", "103"]
HORROR = {"genres:Horror": 0.8}


@pytest.fixture(params=["server", "local"])
def either(request: pytest.FixtureRequest, client: Client, local: LocalClient) -> Client | LocalClient:
    """A server, or the same bundle in this process."""
    return client if request.param == "server" else local


def test_an_answer_is_what_the_stubs_give(either: Client | LocalClient, server: Running) -> None:
    controls = [concept("genres:Horror", 0.8), tilt("genres", "War", -0.5)]
    answer = either.recommend(HISTORY, controls=controls, k=7)
    wanted = server.recommendation.Recommend(
        RecommendRequest(
            history=History(item_ids=HISTORY),
            controls=[
                Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.8),
                Control(attribute=AttributeRef(name="genres", value="War"), operation=OPERATION_ADD, strength=-0.5),
            ],
            k=7,
        )
    )
    assert answer.item_ids == tuple(item.item_id for item in wanted.items)
    assert [item.title for item in answer.items] == [item.title for item in wanted.items]
    assert [item.score for item in answer.items] == pytest.approx([item.score for item in wanted.items], abs=1e-5)
    assert answer.bundle_version == wanted.bundle_version
    assert (answer.history_use.used_events, answer.eligible_items) == (3, 57)
    (horror, war), (edit,) = answer.applied_controls, wanted.applied_controls[0].edits
    assert (horror.source, horror.control.target) == ("request", ConceptTarget("genres:Horror"))
    assert (horror.edits[0].label, war.edits) == (edit.label, ())
    assert horror.edits[0].strength == pytest.approx(edit.strength, abs=1e-5)


def test_a_mapping_is_concepts(either: Client | LocalClient) -> None:
    of_mapping = either.recommend(HISTORY, controls=HORROR)
    assert of_mapping.item_ids == either.recommend(HISTORY, controls=[concept("genres:Horror", 0.8)]).item_ids
    assert of_mapping.item_ids != either.recommend(HISTORY).item_ids


def test_filters(either: Client | LocalClient) -> None:
    horror = Filters(attributes={"genres": ["Horror"]}, deny_item_ids=["106", "none"], include_seen=True)
    answer = either.recommend(HISTORY, filters=horror, k=60)
    assert "106" not in answer.item_ids
    assert answer.unknown_filter_ids == 1
    kinds = [item.attributes["genres"] for item in either.items(item_ids=answer.item_ids)]
    assert kinds
    assert all("Horror" in genres for genres in kinds if isinstance(genres, tuple))


def test_the_catalogue(either: Client | LocalClient) -> None:
    info = either.model_info()
    features = [*either.features(include_rare=True)]
    assert {each.bundle_version for each in features} == {info.bundle_version}
    one = either.feature(features[0].id, version=info.bundle_version)
    assert one == features[0]
    steered = either.recommend(HISTORY, controls=[feature(one, 0.5)])
    assert steered.applied_controls[0].edits[0].feature_id == one.id
    names = [each.name for each in either.concepts("GENRES:")]
    assert names
    assert all(name.startswith("genres:") for name in names)
    assert either.recommend(controls={names[0]: 1.0}).history_use.empty
    assert [item.item_id for item in either.items("film 59")] == ["159"]
    assert info.limits.k == 1000


def test_lists_are_asked_for_page_by_page(either: Client | LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [*either.items()], [*either.features(include_rare=True)]
    monkeypatch.setattr(calls, "PAGE_SIZE", 7)
    assert ([*either.items()], [*either.features(include_rare=True)]) == whole
    assert len(whole[0]) == 60


@pytest.mark.parametrize(
    ("call", "code", "fields"),
    [
        (lambda c: c.recommend(HISTORY, k=10**6), "INVALID_ARGUMENT", ["k"]),
        (
            lambda c: c.recommend(controls={"genres:Horor": float("nan")}),
            "INVALID_ARGUMENT",
            ["controls[0].concept", "controls[0].strength"],
        ),
        (lambda c: c.feature(10**6), "NOT_FOUND", []),
    ],
)
def test_errors_name_fields_and_reason(
    either: Client | LocalClient, call: Callable[[Any], Any], code: str, fields: list[str]
) -> None:
    with pytest.raises(CallError) as caught:
        call(either)
    assert (caught.value.code, sorted(caught.value.fields)) == (code, fields)
    assert caught.value.reason == ("INVALID_REQUEST" if fields else "NOT_FOUND")
    assert all(f"{field}: {why}" in str(caught.value) for field, why in caught.value.fields.items())


def test_a_feature_of_another_bundle(either: Client | LocalClient) -> None:
    with pytest.raises(CallError) as caught:
        either.recommend(HISTORY, controls=[feature(3, 0.5, version="0" * 64)])
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "FEATURE_OF_ANOTHER_BUNDLE")
    assert caught.value.metadata["bundle_version"] == either.model_info().bundle_version
    assert caught.value.retry_seconds is None


def test_sessions(client: Client) -> None:
    events = [Event("101", event_id="a"), Event("102", event_id="b")]
    assert client.append_events("grace", events).appended == 2
    again = client.append_events("grace", [*events, "103"])
    assert (again.appended, again.duplicates, again.total_events) == (1, 2, 3)
    version = client.set_controls("grace", HORROR)
    session = client.session("grace")
    assert (session.version, session.item_ids) == (version, ("101", "102", "103"))
    assert [str(control) for control in session.controls] == ["genres:Horror = 0.8"]
    assert session.seconds_to_live > 1e6
    assert client.session("grace", max_item_ids=1).item_ids == ("103",)
    answer = client.recommend(session_id="grace", new_events=["104"], min_session_version=version)
    assert (answer.session_version, answer.applied_controls[0].source) == (version + 1, "session")
    explicit = client.recommend([*session.item_ids, "104"], controls=session.controls)
    assert answer.item_ids == explicit.item_ids
    assert client.delete_session("grace")
    assert not client.delete_session("grace")
    with pytest.raises(CallError, match="NOT_FOUND"):
        client.session("grace")


async def test_asyncio_gives_the_same(client: Client, address: str) -> None:
    async with AsyncClient(address, timeout=60) as asynchronous:
        steered, plain = await asyncio.gather(
            asynchronous.recommend(HISTORY, controls=HORROR), asynchronous.recommend(HISTORY)
        )
        assert steered.item_ids == client.recommend(HISTORY, controls=HORROR).item_ids
        assert plain.item_ids == client.recommend(HISTORY).item_ids
        assert [each async for each in asynchronous.concepts()] == [*client.concepts()]
        assert await asynchronous.model_info() == client.model_info()
        with pytest.raises(CallError, match="controls") as caught:
            await asynchronous.recommend(controls={"nothing": 1})
        assert caught.value.fields


def test_what_cannot_be_sent_is_refused_here(client: Client) -> None:
    with pytest.raises(TypeError, match='history: give a list of ids, each a text: \\["50", "181"\\]'):
        client.recommend("101")
    numbers: Any = [101]
    with pytest.raises(TypeError, match="history"):
        client.recommend(numbers)
    one: Any = concept("genres:Horror", 1)
    with pytest.raises(TypeError, match="controls: give a list"):
        client.recommend(controls=one)
    with pytest.raises(ValueError, match="give version="):
        feature(3, 0.5)


def test_help_shows_the_arguments(client: Client) -> None:
    import inspect

    assert [*inspect.signature(client.recommend).parameters] == [*inspect.signature(Request).parameters]
    assert [*inspect.signature(client.sweep).parameters][:3] == ["control", "strengths", "history"]
    assert client.recommend.__doc__ == "The k best items for a history or a session, under controls and filters."


def test_frames(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.recommend(HISTORY, k=3)
    table = answer.frame()
    assert table.columns == ["rank", "item_id", "title", "score"]
    assert table["rank"].to_list() == [1, 2, 3]
    concepts = frame(client.concepts())
    assert {"name", "effect.share_after", "strength"} <= {*concepts.columns}
    assert concepts.height == len([*client.concepts()])
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(ImportError, match="pip install polars"):
        answer.frame()
