"""JSON to messages and back: whatever does not fit is refused by the name of its field, and nothing else happens."""

import json
import math
import sys
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, FeatureRef
from steersman.v1.feature_service_pb2 import Feature
from steersman.v1.recommendation_service_pb2 import Filters, History, RecommendRequest
from steersman_service.errors import MAX_VIOLATIONS, FieldViolation, InvalidRequest
from steersman_service.http.contract import methods
from steersman_service.http.json_messages import from_json, to_json

DEEP = sys.getrecursionlimit() + 100


def refusal(text: str | bytes, kind: type[Message] = RecommendRequest) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        from_json(text if isinstance(text, bytes) else text.encode(), kind)
    return {violation.field: violation.description for violation in caught.value.violations}


@pytest.mark.parametrize(
    ("text", "field", "told"),
    [
        ('{"kk": 1}', "kk", "did you mean k?"),
        ('{"qqqqqq": 1}', "qqqqqq", "it has history, sessionId"),
        ('{"controls": [{}, {"strenght": 1}]}', "controls[1].strenght", "did you mean strength?"),
        ('{"history": {"item_id": []}}', "history.item_id", "did you mean item"),
        ('{"history": {"itemIds": ["1"], "item_ids": ["2"]}}', "history.item_ids", "stands twice"),
        ('{"k": 1, "k": 2}', "request", "'k' stands twice"),
        ('{"history": 3}', "history", "has to be an object of History"),
        ('{"controls": {"a": 1}}', "controls", "has to be a list"),
        ('{"controls": [3]}', "controls[0]", "has to be an object of Control"),
        ('{"k": "many"}', "k", "invalid literal"),
        ('{"k": -1}', "k", "out of range: -1"),
        ('{"k": 1.5}', "k", "integer: 1.5"),
        ('{"k": 1e400}', "k", "inf"),
        ('{"k": true}', "k", "not acceptable"),
        ('{"sessionId": 5}', "sessionId", "expected string"),
        ('{"sessionId": "\\ud800"}', "sessionId", "surrogate"),
        ('{"controls": [{"strength": NaN}]}', "controls[0].strength", 'quoted "NaN"'),
        ('{"controls": [{"operation": "OPERATION_NONE"}]}', "controls[0].operation", "OPERATION_NONE"),
        ('{"controls": [{"concept": "a", "feature": {"id": 1}}]}', "controls[0]", '"target" oneof'),
        ('{"history": {"itemIds": [null]}}', "history.itemIds[0]", "null"),
        ("[]", "request", "has to be an object of RecommendRequest"),
        ("null", "request", "has to be an object"),
        ('"k"', "request", "has to be an object"),
        ("", "request", "write {}"),
        ("  ", "request", "write {}"),
        ("{", "request", "no JSON"),
        ("{'k': 1}", "request", "no JSON"),
        ("k=1", "request", "no JSON"),
        ('{"k": ' + "1" * 5000 + "}", "request", "no JSON"),
        ("[" * DEEP + "]" * DEEP, "request", "nested too deep"),
    ],
)
def test_what_is_wrong_is_told_by_its_field(text: str, field: str, told: str) -> None:
    violations = refusal(text)
    assert list(violations) == [field]
    assert told in violations[field]


def test_bytes_that_are_no_text_are_refused() -> None:
    assert "UTF-8" in refusal(b'{"sessionId": "\xff"}')["request"]


def test_all_that_is_wrong_is_told_up_to_a_bound() -> None:
    assert list(refusal('{"aaaa": 1, "history": {"bbbb": 2}}')) == ["aaaa", "history.bbbb"]
    many = json.dumps({"controls": [{"strenght": 1}] * 10_000})
    assert len(refusal(many)) == MAX_VIOLATIONS


def test_a_long_name_is_cut() -> None:
    assert all(len(text) < 500 for pair in refusal(json.dumps({"x" * 100_000: 1})).items() for text in pair)


def test_a_field_that_is_null_is_left_out() -> None:
    assert from_json(b'{"k": null, "history": null, "controls": null}', RecommendRequest) == RecommendRequest()


def test_titles_stay_as_people_write_them() -> None:
    assert "Amélie".encode() in to_json(Feature(label="Amélie"))


texts = st.text(st.characters(codec="utf-8"), max_size=8)
# JSON has one NaN; it has no sign.
floats = st.floats(width=32).map(lambda number: math.nan if math.isnan(number) else number)
controls = st.builds(
    lambda target, strength: Control(**target, operation=OPERATION_ADD, strength=strength),
    st.one_of(
        st.builds(lambda name: {"concept": name}, texts),
        st.builds(lambda number: {"feature": FeatureRef(id=number)}, st.integers(0, 2**32 - 1)),
        st.builds(lambda name, value: {"attribute": AttributeRef(name=name, value=value)}, texts, texts),
    ),
    floats,
)
requests = st.builds(
    lambda items, before, listed, k, deny: RecommendRequest(
        history=History(item_ids=items, events_before=before),
        controls=listed,
        k=k,
        filters=Filters(deny_item_ids=deny, include_seen=True),
    ),
    st.lists(texts, max_size=4),
    st.integers(0, 2**64 - 1),
    st.lists(controls, max_size=3),
    st.integers(0, 2**32 - 1),
    st.lists(texts, max_size=3),
)
values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["history", "controls", "k", "item_ids", "feature", "id", "x", ""]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(requests)
@settings(max_examples=50, deadline=None)
def test_what_was_written_is_read(request: RecommendRequest) -> None:
    read = from_json(to_json(request), RecommendRequest)
    assert read.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)


def violations(data: bytes, kind: type[Message]) -> list[FieldViolation]:
    """Of what is refused; anything but a message and a refusal fails."""
    try:
        from_json(data, kind).SerializeToString()
    except InvalidRequest as refused:
        return list(refused.violations)
    return []


@given(values, st.sampled_from([method.request for method in methods()]))
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_message_or_refused_by_field(value: Any, kind: type[Message]) -> None:
    assert all(wrong.field and wrong.description for wrong in violations(json.dumps(value).encode(), kind))


@given(st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_message_or_refused_by_field(data: bytes) -> None:
    assert all(wrong.field and wrong.description for wrong in violations(data, RecommendRequest))
