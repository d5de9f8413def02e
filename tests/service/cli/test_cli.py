"""The commands as a person types them, against a real server."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from steersman.v1.session_service_pb2 import AppendEventsRequest, Event
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.cli.main import make_app
from steersman_service.settings import Settings
from tests.serving import Running


def steersman(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), arguments, env={"COLUMNS": "200"})


@pytest.fixture
def address(server: Running) -> tuple[str, str]:
    return "--address", f"127.0.0.1:{server.ports.grpc}"


def test_help_lists_every_command_and_every_setting() -> None:
    listed = steersman("--help").stdout
    assert all(command in listed for command in ("serve", "recommend", "features", "train", "evaluate"))
    flags = steersman("serve", "--help").stdout
    for name in Settings.model_fields:
        assert (f"--{name.replace('_', '-')}" in flags) == (name != "metrics_token"), "a secret is no flag"
        assert f"STEERSMAN_{name.upper()}" in flags


def test_a_steered_call(address: tuple[str, str], items: Items, bundle: Bundle) -> None:
    history = ",".join([*items.ids[:2], "unknown"])
    steered = steersman("recommend", "--history", history, "--control", "genres:Horror=0.8", "-k", "3", *address)
    assert steered.exit_code == 0, steered.output
    assert "genres:Horror = 0.8" in steered.stdout
    assert "1 unknown of 3 items" in steered.stderr
    assert "'unknown'" in steered.stderr
    controls = ("--control", "f0:add=0.5", "--control", "f1=-1", "--control", "f2:scale=2", "--control", "f3:ablate")
    as_json = steersman("recommend", "--history", history, *controls, "--json", *address)
    answer = json.loads(as_json.stdout)
    given = [applied["control"] for applied in answer["applied_controls"]]
    assert [control["operation"] for control in given] == [
        "OPERATION_ADD",
        "OPERATION_ADD",
        "OPERATION_SCALE",
        "OPERATION_ABLATE",
    ]
    assert {control["feature"]["bundle_version"] for control in given} == {bundle.version}
    assert len(answer["items"]) == 10


def test_a_tilted_call(address: tuple[str, str], items: Items) -> None:
    history = ("--history", ",".join(items.ids[:2]))
    tilts = ("--tilt", "genres:Horror=0.8", "--tilt", "year=-0.5")
    tilted = steersman("recommend", *history, *tilts, "--control", "genres:War=0.1", *address)
    assert tilted.exit_code == 0, tilted.output
    assert "tilt genres:Horror = 0.8" in tilted.stdout
    assert "tilt year = -0.5" in tilted.stdout
    assert "genres:War = 0.1:" in tilted.stdout
    answer = json.loads(steersman("recommend", *history, *tilts, "--json", *address).stdout)
    given = [applied["control"]["attribute"] for applied in answer["applied_controls"]]
    assert given == [{"name": "genres", "value": "Horror"}, {"name": "year"}]


def test_filters_and_sessions(server: Running, address: tuple[str, str], items: Items) -> None:
    events = [Event(event_id="1", item_id=items.ids[0])]
    server.session.AppendEvents(AppendEventsRequest(session_id="cli", events=events))
    where = ("--where", "genres=War", "--where", "genres=Horror", "--where", "year=1950", "--where", "year=1953")
    answer = steersman("recommend", "--session", "cli", "--include-seen", *where, "--json", *address)
    assert json.loads(answer.stdout)["session_version"] == "1"
    allowed = ("--allow", ",".join(items.ids[:3]), "--deny", items.ids[1])
    answer = steersman("recommend", "--session", "cli", *allowed, "--json", *address)
    assert [item["item_id"] for item in json.loads(answer.stdout)["items"]] == [items.ids[2]]


def test_features_and_concepts(address: tuple[str, str], bundle: Bundle) -> None:
    listed = json.loads(steersman("features", "--json", "--limit", "3", *address).stdout)
    assert all(f"f{feature.get('id', 0)} " in steersman("features", *address).stdout for feature in listed["features"])
    everything = json.loads(steersman("features", "--all", "--json", "--limit", "3", *address).stdout)
    assert everything["total_size"] == bundle.manifest.shape.features
    assert "genres:Horror" in steersman("features", "--concepts", *address).stdout
    concepts = json.loads(steersman("features", "--concepts", "--text", "horror", "--json", *address).stdout)
    assert [concept["name"] for concept in concepts["concepts"]] == ["genres:Horror"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("recommend", "--control", "genres:Horor=1"), "controls[0].concept: unknown concept"),
        (("recommend", "--control", "f0=99"), "controls[0].strength"),
        (
            ("recommend", "--tilt", "genres:Horor=1"),
            "controls[0].attribute.value: no item has 'Horor'; did you mean Horror?",
        ),
        (
            ("recommend", "--tilt", "years=1"),
            "controls[0].attribute.name: unknown attribute 'years'; did you mean year?",
        ),
        (("recommend", "--history", "1", "--session", "s"), "--history: is ambiguous"),
        (
            ("recommend", "--where", "genres=Horor"),
            "filters.attributes[0].any_of[0]: no item has 'Horor'; did you mean Horror?",
        ),
        (("recommend", "--where", "GENRE=War"), "unknown attribute 'GENRE'; did you mean genres?"),
        (("recommend", "--where", "year=1900"), "no item has 1900; its nearest values are 1950"),
        (("recommend", "--where", "year=old"), "the attribute is numeric, and 'old' is no number"),
        (("recommend", "--session", "no such id"), "session_id"),
    ],
)
def test_errors_name_the_field(address: tuple[str, str], arguments: tuple[str, ...], why: str) -> None:
    failed = steersman(*arguments, *address)
    assert failed.exit_code == 1
    assert why in failed.stderr
    assert "Traceback" not in failed.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--control", "genres:Horror"),
        ("--control", "f0=x"),
        ("--where", "genres"),
        ("--tilt", "genres:Horror"),
        ("--tilt", "year=old"),
    ],
)
def test_what_cannot_be_read_is_said_before_a_call(arguments: tuple[str, ...], address: tuple[str, str]) -> None:
    failed = steersman("recommend", *arguments, *address)
    assert failed.exit_code == 2
    assert "write" in failed.stderr


def test_no_server(tmp_path: Path) -> None:
    failed = steersman("features", "--address", f"unix:{tmp_path}/nobody")
    assert failed.exit_code == 1
    assert "steersman serve" in failed.stderr


def test_a_server_without_a_bundle_says_what_to_do(tmp_path: Path) -> None:
    failed = steersman("serve", "--data", str(tmp_path), "--port", "0", "--metrics-port", "0")
    assert failed.exit_code == 1
    assert "steersman train" in failed.stderr


def test_an_explanation(address: tuple[str, str], items: Items) -> None:
    history = ("--history", ",".join(items.ids[:6]))
    listed = json.loads(steersman("recommend", *history, "--json", *address).stdout)["items"]
    controls = ("--control", "genres:Horror=0.5", "--tilt", "genres:War=0.25")
    told = steersman("explain", *history, *controls, "--why", items.titles[7], "--events", "--top", "3", *address)
    assert told.exit_code == 0, told.output
    for part in (
        "share of the spread",
        "carried by",
        "rest of the state",
        "bias of the item",
        "tilt genres:War",
        "score",
    ):
        assert part in told.stdout
    assert f"{items.titles[7]} ({items.ids[7]})" in told.stdout
    answer = json.loads(steersman("explain", *history, "--why", items.ids[7], "--json", *address).stdout)
    assert [item["item_id"] for item in answer["recommendation"]["items"]] == [item["item_id"] for item in listed]
    assert len(answer["accounts"]) == 11


def test_what_would_change_a_list(address: tuple[str, str], items: Items) -> None:
    history = ("--history", ",".join(items.ids[:6]))
    last = json.loads(steersman("recommend", *history, "--json", *address).stdout)["items"][-1]
    for by in ((), ("--by", "genres:Horror"), ("--by", "genres:War=-1"), ("--by", "events"), ("--by", "f0")):
        told = steersman("explain", *history, "--change", last["title"], *by, *address)
        assert told.exit_code == 0, told.output
        taken = (f"take {last['item_id']} off the list", f"{last['item_id']} would not be in the list")
        assert any(text in told.stdout for text in taken)
    cheapest = steersman("explain", *history, "--change", last["item_id"], *address)
    assert "The list would keep" in cheapest.stdout
    out = steersman("explain", *history, "--change", items.ids[0], "--by", "events", *address)
    assert out.exit_code == 1
    assert "change.events" in out.stderr
    assert steersman("explain", *history, "--by", "events", *address).exit_code == 2
    assert steersman("explain", *history, "--change", ",".join(items.ids[:2]), *address).exit_code == 2
