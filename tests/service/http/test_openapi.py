"""The OpenAPI document: what it says of calls is what calls take and give."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from steersman_service.http.contract import methods
from tests.service.http.gateways import JSON, Gateway
from tests.service.http.test_calls import PATH


@pytest.fixture(scope="module")
def document(front: Gateway) -> Any:
    return front.get("/openapi.json").json


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from references(each)


def valid(document: Any, schema: Any, instance: Any) -> None:
    """Raises ValidationError."""
    Draft202012Validator({**schema, "components": document["components"]}).validate(instance)


def schema_of(content: Any) -> Any:
    return content["content"]["application/json"]["schema"]


def test_every_call_is_described_and_every_reference_leads_somewhere(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {method.path for method in methods()}
    found = set(references(document))
    assert len(found) > 50
    for reference in found:
        place = document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]
        assert place
    Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})
    names = [path["post"]["operationId"] for path in document["paths"].values()]
    assert len(set(names)) == len(names)


def test_real_answers_are_as_described(document: Any, front: Gateway) -> None:
    steered = {
        "history": {"itemIds": ["100"]},
        "controls": [{"concept": "genres:Horror", "operation": "OPERATION_ADD", "strength": 0.5}],
    }
    for path, body in (
        (PATH, steered),
        ("/steersman.v1.FeatureService/ListFeatures", {"includeRare": True}),
        ("/steersman.v1.FeatureService/ListConcepts", {}),
        ("/steersman.v1.ItemService/ListItems", {}),
        ("/steersman.v1.ModelService/GetModelInfo", {}),
        ("/steersman.v1.ModelService/ListHistories", {"pageSize": 2, "seed": 3}),
    ):
        described = document["paths"][path]["post"]
        valid(document, schema_of(described["requestBody"]), body)
        reply = front.send(path, json.dumps(body))
        assert reply.status == 200
        assert reply.json
        valid(document, schema_of(described["responses"]["200"]), reply.json)


def test_real_errors_are_as_described(document: Any, front: Gateway) -> None:
    error = schema_of(document["components"]["responses"]["error"])
    for reply in (
        front.send(PATH, "{"),
        front.get("/none"),
        front.send(PATH, '{"k": 100000}'),
        front.send(PATH, "", {}),
    ):
        valid(document, error, reply.json)


@pytest.mark.parametrize("body", [{"kk": 1}, {"k": -1}, {"controls": {}}, {"history": {"itemIds": [1]}}])
def test_what_it_does_not_describe_is_refused(document: Any, front: Gateway, body: Any) -> None:
    with pytest.raises(ValidationError):
        valid(document, schema_of(document["paths"][PATH]["post"]["requestBody"]), body)
    assert front.send(PATH, json.dumps(body), JSON).status == 400


def test_the_index_names_every_call(front: Gateway) -> None:
    index = front.get("/").json
    assert [path for paths in index["services"].values() for path in paths] == [method.path for method in methods()]
    assert front.get(index["openapi"]).status == 200
    assert front.get(index["health"]).json == {"status": "SERVING"}
