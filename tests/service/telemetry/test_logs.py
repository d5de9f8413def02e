"""What the log says, and what it never says."""

import json
import logging
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from steersman.v1 import feature_service_pb2 as features_pb
from steersman.v1.control_pb2 import OPERATION_ADD, OPERATION_SET, AttributeRef, Control, FeatureRef
from steersman.v1.explanation_service_pb2 import ExplainRequest
from steersman.v1.explanation_service_pb2_grpc import ExplanationServiceStub
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.item_service_pb2 import ListItemsRequest
from steersman.v1.item_service_pb2_grpc import ItemServiceStub
from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2 import (
    AttributeFilter,
    Composition,
    Filters,
    History,
    RecommendRequest,
)
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.release_service_pb2 import ListReleasesRequest, LoadReleaseRequest, PromoteCanaryRequest
from steersman.v1.release_service_pb2_grpc import ReleaseServiceStub
from steersman.v1.scenario_service_pb2 import (
    DeleteScenarioRequest,
    GetScenarioRequest,
    ListScenarioChangesRequest,
    ListScenariosRequest,
    PutScenarioRequest,
    Scenario,
)
from steersman.v1.scenario_service_pb2_grpc import ScenarioServiceStub
from steersman.v1.session_service_pb2 import (
    EVENT_KIND_DISLIKED,
    EVENT_KIND_SHOWN,
    AppendEventsRequest,
    DeleteSessionRequest,
    Event,
    GetSessionRequest,
    SetControlsRequest,
)
from steersman.v1.session_service_pb2_grpc import SessionServiceStub
from steersman_service.api.handlers import SERVICES
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.sessions.store import SessionStore
from steersman_service.telemetry.logs import configure_logs
from tests.serving import serving, settings_for


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The events of calls, with their levels, as a server that logs everything hands them to structlog."""
    found: list[dict[str, Any]] = []

    def configure(level: str, log_format: str) -> None:
        configure_logs("debug", "json")

        def keep(logger: Any, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
            if "method" in event:
                found.append({"level": level, **event})
            raise structlog.DropEvent

        structlog.configure(processors=[keep])

    monkeypatch.setattr("tests.serving.configure_logs", configure)
    return found


async def broken(*arguments: Any) -> bool:
    raise RuntimeError("broken")


def test_one_line_a_call_whose_level_says_how_it_went(
    bundle_dir: Path, tmp_path: Path, calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recommend, delete = "/steersman.v1.RecommendationService/Recommend", "/steersman.v1.SessionService/DeleteSession"
    monkeypatch.setattr(SessionStore, "delete", broken)
    with serving(settings_for(tmp_path, bundle_dir, slow_call_ms=3.6e6)) as server:
        server.recommendation.Recommend(RecommendRequest(request_id="one"))
        with pytest.raises(grpc.RpcError):
            server.recommendation.Recommend(RecommendRequest(request_id="two", k=5000))
        with pytest.raises(grpc.RpcError):
            server.session.DeleteSession(DeleteSessionRequest(session_id="s"))
    told = [(c["level"], c["event"], c["method"], c.get("code"), c.get("reason")) for c in calls]
    assert told == [
        ("debug", "call", recommend, "OK", ""),
        ("info", "call", recommend, "INVALID_ARGUMENT", "INVALID_REQUEST"),
        ("error", "call failed", delete, None, None),
        ("info", "call", delete, "INTERNAL", "INTERNAL"),
    ]
    assert [c["request_id"] for c in calls[:2]] == ["one", "two"]
    assert calls[2]["request_id"] == calls[3]["request_id"]
    assert all(c["ms"] > 0 for c in calls if c["event"] == "call")


def test_slow_calls_are_warned_of_and_streams_are_never_slow(
    bundle_dir: Path, tmp_path: Path, calls: list[dict[str, Any]]
) -> None:
    with serving(settings_for(tmp_path, bundle_dir, slow_call_ms=1e-6)) as server:
        server.recommendation.Recommend(RecommendRequest())
        health: Any = HealthStub(server.channel)
        watching = health.Watch(HealthCheckRequest())
        next(watching)
        watching.cancel()
        while len(calls) < 2:
            pass
    assert [(c["level"], c["code"]) for c in calls] == [("warning", "OK"), ("debug", "CANCELLED")]


def test_a_request_id_cannot_pass_for_another_line(
    bundle_dir: Path, tmp_path: Path, calls: list[dict[str, Any]]
) -> None:
    with serving(settings_for(tmp_path, bundle_dir)) as server:
        server.recommendation.Recommend(RecommendRequest(request_id="a\n\x1b[31mb"))
    assert calls[0]["request_id"] == r"a\n\x1b[31mb"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_come_without_the_values_of_variables(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(request: str) -> None:
        raise RuntimeError("broken")

    configure_logs("info", log_format)
    try:
        fail("".join(["SEC", "RET"]))
    except RuntimeError:
        structlog.get_logger().exception("call failed")
    written = capsys.readouterr().err
    assert "RuntimeError" in written
    assert "in fail" in written or '"name": "fail"' in written
    assert "SECRET" not in written


def test_what_libraries_log_comes_out_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    assert logging.lastResort
    logging.lastResort.handle(
        logging.makeLogRecord({"msg": "lost %s", "args": ("it",), "levelname": "WARNING", "levelno": 30})
    )
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"]) == ("lost it", "warning")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_neither_the_log_nor_a_metric_names_what_callers_send(
    bundle_dir: Path, tmp_path: Path, items: Items, bundle: Bundle, log_format: str
) -> None:
    """Every RPC, answered and refused, with ids that are easy to find again; at the level that logs most."""
    command = [sys.executable, "-m", "steersman_service", "serve", "--port", "0", "--metrics-port", "0"]
    command += [
        "--data",
        str(tmp_path),
        "--bundle",
        str(bundle_dir),
        "--log-level",
        "debug",
        "--log-format",
        log_format,
    ]
    command += ["--list-change-sample", "1", "--slow-call-ms", "0.001"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        log = [next(line for line in process.stderr if "ready" in line)]
        grpc_address, metrics_address = _addresses(log[0])
        try:
            with grpc.insecure_channel(grpc_address) as channel:
                _call_everything(channel, items, bundle)
            with urllib.request.urlopen(f"http://{metrics_address}/metrics") as response:
                metrics = response.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
            log += process.stderr
    written = "".join(log)
    for service in SERVICES:
        assert service in written
        assert service in metrics
    assert "my-request" in written, "the id of a request is what a caller and an operator talk about"
    assert "steersman_list_change_ratio_count 1.0" in metrics
    # An item's id is a number here, which may stand in a time by chance: as a text it stands in quotes.
    for secret in ("SECRET", f'"{items.ids[7]}"', f"'{items.ids[7]}'", items.titles[7], "genres:Horror"):
        assert secret not in written
        assert secret not in metrics
    assert "my-request" not in metrics


def _addresses(ready: str) -> list[str]:
    words = ready.replace("=", " ").replace(",", " ").replace('"', " ").replace("\x1b", " ").split()
    return [word.removesuffix("}") for word in words if word.startswith("127.0.0.1:")]


def _call_everything(channel: grpc.Channel, items: Items, bundle: Bundle) -> None:
    recommendation, session = RecommendationServiceStub(channel), SessionServiceStub(channel)
    features, listed, model = FeatureServiceStub(channel), ItemServiceStub(channel), ModelServiceStub(channel)
    explanation = ExplanationServiceStub(channel)
    known, secret = items.ids[7], "SECRET-1"
    releases = ReleaseServiceStub(channel)
    horror = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=1)
    strange = Control(concept="SECRET-2", operation=OPERATION_SET, strength=99)
    stale = Control(feature=FeatureRef(id=1, bundle_version="SECRET-3"), operation=OPERATION_ADD)
    tilt = Control(attribute=AttributeRef(name="SECRET-22", value="SECRET-23"), operation=OPERATION_ADD)
    filters = Filters(deny_item_ids=["SECRET-4"], attributes=[AttributeFilter(attribute="genres", any_of=["War"])])
    none_has = Filters(attributes=[AttributeFilter(attribute="genres", any_of=["SECRET-5"])])
    wrong = Filters(attributes=[AttributeFilter(attribute="SECRET-6", any_of=["SECRET-7"])])
    events = [
        Event(event_id="SECRET-8", item_id=known),
        Event(event_id="SECRET-9", item_id="SECRET-10"),
        Event(event_id="SECRET-27", item_id=known, kind=EVENT_KIND_DISLIKED),
        Event(event_id="SECRET-28", item_id="SECRET-29", kind=EVENT_KIND_SHOWN),
    ]
    answered: list[tuple[Any, Any]] = [
        (session.AppendEvents, AppendEventsRequest(session_id=secret, events=events)),
        (session.SetControls, SetControlsRequest(session_id=secret, controls=[horror])),
        (session.GetSession, GetSessionRequest(session_id=secret)),
        (recommendation.Recommend, RecommendRequest(history=History(item_ids=[known]), filters=filters)),
        (recommendation.Recommend, RecommendRequest(session_id=secret, k=60, request_id="my-request")),
        (session.DeleteSession, DeleteSessionRequest(session_id=secret)),
        (features.ListFeatures, features_pb.ListFeaturesRequest(text="SECRET-11")),
        (features.ListConcepts, features_pb.ListConceptsRequest(text="SECRET-12")),
        (features.GetFeature, features_pb.GetFeatureRequest(id=1, bundle_version=bundle.version)),
        (listed.ListItems, ListItemsRequest(text="SECRET-24")),
        (listed.ListItems, ListItemsRequest(item_ids=["SECRET-25"])),
        (model.GetModelInfo, GetModelInfoRequest()),
        (explanation.Explain, ExplainRequest(request=RecommendRequest(), item_ids=[known])),
        (releases.ListReleases, ListReleasesRequest()),
    ]
    refused: list[tuple[Any, Any]] = [
        (session.AppendEvents, AppendEventsRequest(session_id="SECRET 13", events=[Event(event_id="SECRET-14" * 99)])),
        (session.SetControls, SetControlsRequest(session_id=secret, controls=[strange])),
        (session.SetControls, SetControlsRequest(session_id=secret, controls=[stale])),
        (session.GetSession, GetSessionRequest(session_id="SECRET-15")),
        (session.DeleteSession, DeleteSessionRequest(session_id="SECRET 16")),
        (recommendation.Recommend, RecommendRequest(session_id="SECRET 17", filters=wrong, controls=[strange])),
        (recommendation.Recommend, RecommendRequest(controls=[stale])),
        (recommendation.Recommend, RecommendRequest(controls=[tilt])),
        (recommendation.Recommend, RecommendRequest(filters=none_has)),
        (listed.ListItems, ListItemsRequest(page_token="SECRET-26")),
        (features.ListFeatures, features_pb.ListFeaturesRequest(page_token="SECRET-18")),
        (features.ListConcepts, features_pb.ListConceptsRequest(text="SECRET-19" * 99)),
        (features.GetFeature, features_pb.GetFeatureRequest(id=1, bundle_version="SECRET-20")),
        (explanation.Explain, ExplainRequest(request=RecommendRequest(), item_ids=["SECRET-50"])),
        (explanation.Explain, ExplainRequest(request=RecommendRequest(controls=[Control(words="SECRET-51")]))),
        (releases.LoadRelease, LoadReleaseRequest(bundle="SECRET-52")),
        (releases.PromoteCanary, PromoteCanaryRequest(version="SECRET-53")),
    ]
    more_answered, more_refused = _about_scenarios(ScenarioServiceStub(channel), recommendation, known)
    for call, request in (*answered, *more_answered):
        call(request)
    for call, request in (*refused, *more_refused):
        with pytest.raises(grpc.RpcError):
            call(request)
    garbled: Any = channel.unary_unary("/steersman.v1.SessionService/GetSession")
    with pytest.raises(grpc.RpcError):
        garbled(b"\xffSECRET-21")


def _about_scenarios(
    scenario: ScenarioServiceStub, recommendation: RecommendationServiceStub, known: str
) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Calls that are answered, and calls that are refused."""
    name, pinned = "SECRET-30", Composition(pinned_item_ids=["SECRET-31", known])
    kept = Scenario(name=name, description="SECRET-32", composition=pinned)
    answered: list[tuple[Any, Any]] = [
        (scenario.PutScenario, PutScenarioRequest(scenario=kept, author="SECRET-33")),
        (scenario.GetScenario, GetScenarioRequest(name=name)),
        (scenario.ListScenarios, ListScenariosRequest()),
        (recommendation.Recommend, RecommendRequest(scenario=name)),
        (scenario.ListScenarioChanges, ListScenarioChangesRequest(name=name)),
        (scenario.DeleteScenario, DeleteScenarioRequest(name=name, author="SECRET-34")),
    ]
    wrong = Scenario(name="SECRET 35", controls=[Control(concept="SECRET-36")])
    refused: list[tuple[Any, Any]] = [
        (scenario.PutScenario, PutScenarioRequest(scenario=wrong)),
        (scenario.GetScenario, GetScenarioRequest(name="SECRET-37")),
        (scenario.ListScenarios, ListScenariosRequest(page_token="SECRET-38")),
        (recommendation.Recommend, RecommendRequest(scenario="SECRET-39")),
    ]
    return answered, refused
