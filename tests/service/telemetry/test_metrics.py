"""Metrics as Prometheus sees them: each series moves when its cause happens, and only then."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from prometheus_client.parser import text_string_to_metric_families

from steersman.v1.control_pb2 import (
    OPERATION_ABLATE,
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_SET,
    AttributeRef,
    Control,
    FeatureRef,
    Operation,
)
from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.session_service_pb2 import (
    AppendEventsRequest,
    DeleteSessionRequest,
    Event,
    GetSessionRequest,
    SetControlsRequest,
)
from steersman_service.api.channels import COUNTED
from steersman_service.api.handlers import SERVICES
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.engine.engine import Engine
from steersman_service.engine.loading import load_engine
from steersman_service.engine.options import EngineOptions
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import (
    CallMetrics,
    CertificateMetrics,
    EngineMetrics,
    HttpMetrics,
    Metrics,
    Registry,
    ServerMetrics,
    SessionMetrics,
    SteeringMetrics,
)
from tests.serving import Running, failure, serving, settings_for

HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=2.0)
# What the server does by itself, and what follows from the counts that stand beside it.
BACKGROUND = ("process_", "python_", "steersman_redis_up", "steersman_redis_failures_total")
DERIVED = ("_bucket", "_sum")
SUBSYSTEMS = (
    CallMetrics,
    EngineMetrics,
    SteeringMetrics,
    SessionMetrics,
    HttpMetrics,
    CertificateMetrics,
    ServerMetrics,
)


def scrape(server: Running) -> dict[str, float]:
    """Every sample, by its name and sorted labels as Prometheus writes them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
    return {_series(sample.name, **sample.labels): sample.value for family in families for sample in family.samples}


def _series(name: str, **labels: str) -> str:
    listed = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
    return f"{name}{{{listed}}}" if listed else name


def observed(stage: str) -> str:
    return _series("steersman_inference_seconds_count", stage=stage)


def call(method: str, code: str = "OK", kind: str = "unary") -> dict[str, float]:
    """What one call of "Service/Method" counts."""
    service, _, name = method.partition("/")
    labels = {"grpc_type": kind, "grpc_service": service, "grpc_method": name}
    counted = {
        _series("grpc_server_started_total", **labels): 1.0,
        _series("grpc_server_handled_total", **labels, grpc_code=code): 1.0,
    }
    if service.rpartition(".")[2] in COUNTED and code != "UNIMPLEMENTED":
        outcome = "ok" if code == "OK" else "failed"
        counted[_series("steersman_channel_seconds_count", channel="stable", outcome=outcome)] = 1.0
    return counted | ({_series("grpc_server_handling_seconds_count", **labels): 1.0} if kind == "unary" else {})


RECOMMEND = "steersman.v1.RecommendationService/Recommend"
COMPUTED = {
    "steersman_batch_size_count": 1.0,
    "steersman_queue_wait_seconds_count": 1.0,
    **{observed(stage): 1.0 for stage in ("lower", "search")},
    "steersman_state_cache_misses_total": 1.0,
}
PLAIN = {**call(RECOMMEND), **COMPUTED, _series("steersman_recommendations_total", steered="false"): 1.0}
STEERED = {
    **call(RECOMMEND),
    **COMPUTED,
    observed("edit"): 1.0,
    _series("steersman_recommendations_total", steered="true"): 1.0,
}


def session_call(method: str, code: str = "OK") -> dict[str, float]:
    return call(f"steersman.v1.SessionService/{method}", code)


def redis(operation: str) -> dict[str, float]:
    return {_series("steersman_redis_seconds_count", operation=operation): 1.0}


SESSION_READ = {**redis("visit"), "steersman_session_cache_misses_total": 1.0}


def refused(reason: str) -> dict[str, float]:
    return {_series("steersman_refused_total", reason=reason): 1.0}


def controls(target: str, operation: str, source: str) -> dict[str, float]:
    return {_series("steersman_controls_applied_total", target=target, operation=operation, source=source): 1.0}


@contextmanager
def moves(server: Running) -> Iterator[dict[str, float]]:
    """Afterwards, every series that has moved meanwhile, and by how much."""
    moved: dict[str, float] = {}
    before = scrape(server)
    yield moved
    for series, value in scrape(server).items():
        own = series.startswith(BACKGROUND) or any(f'operation="{each}"' in series for each in ("probe", "get_labels"))
        if value != before.get(series, 0.0) and not own and not series.partition("{")[0].endswith(DERIVED):
            moved[series] = value - before.get(series, 0.0)


@pytest.fixture(scope="module")
def server(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Compares no lists: what it counts is there before the answer is. Keeps no states: calls do not depend on others."""
    settings = settings_for(
        tmp_path_factory.mktemp("metrics"), bundle_dir, list_change_sample=0, state_cache_mb=0, kv_cache_mb=0
    )
    with serving(settings) as running:
        yield running


@pytest.fixture
def feature(bundle: Bundle) -> FeatureRef:
    """One that is alive."""
    alive = np.flatnonzero(bundle.features["scale"].to_numpy())
    return FeatureRef(id=int(alive[0]), bundle_version=bundle.version)


@pytest.fixture
def session_id() -> str:
    return f"test-{uuid4()}"


def append(*event_ids: int, session_id: str) -> AppendEventsRequest:
    events = [Event(event_id=f"{event_id}", item_id="1") for event_id in event_ids]
    return AppendEventsRequest(session_id=session_id, events=events)


def test_every_series_that_can_be_known_stands_at_zero_from_the_start(bundle_dir: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, bundle_dir)) as server:
        samples = scrape(server)
    counted = {
        series: value
        for series, value in samples.items()
        if series.startswith(("grpc_", "steersman_")) and series.partition("{")[0].endswith(("_total", "_count"))
    }
    assert {value for series, value in counted.items() if "probe" not in series and "get_labels" not in series} == {0.0}
    for service in (f"steersman.v1.{name}" for name in SERVICES):
        for method in descriptor_pool.Default().FindServiceByName(service).methods:
            for code in ("OK", "Canceled", "InvalidArgument", "ResourceExhausted", "Internal"):
                assert call(f"{service}/{method.name}", code).keys() <= counted.keys()
    for operation in ("append", "get", "set_controls", "delete", "probe"):
        assert redis(operation).keys() <= counted.keys()
        assert _series("steersman_redis_errors_total", operation=operation) in counted
    for reason in (
        "queue_full",
        "deadline_too_near",
        "deadline_passed",
        "invalid_request",
        "draining",
        "session_store_unavailable",
    ):
        assert refused(reason).keys() <= counted.keys()
    for stage in ("lower", "concept", "edit", "upper", "search"):
        assert observed(stage) in counted
    assert controls("concept", "add", "session").keys() <= counted.keys()
    assert "steersman_list_change_ratio_count" in counted
    assert _series("steersman_degraded_total", reason="session_unavailable") in counted
    assert samples["process_resident_memory_bytes"] > 0
    assert any(series.startswith("python_info{") for series in samples)
    assert not any(series.partition("{")[0].endswith("_created") for series in samples)


def test_what_is_served(server: Running, bundle: Bundle) -> None:
    labels = {
        "channel": "stable",
        "version": bundle.version,
        "format": "1.7",
        "data": "interactions",
        "backend": "onnx",
        "device": "cpu",
    }
    labels["data"] = bundle.manifest.provenance.data
    samples = scrape(server)
    assert samples[_series("steersman_bundle_info", **labels)] == 1.0
    assert (samples["steersman_ready"], samples["steersman_queue_capacity"], samples["steersman_queue_depth"]) == (
        1.0,
        256.0,
        0.0,
    )


def test_a_plain_recommendation(server: Running) -> None:
    with moves(server) as moved:
        server.recommendation.Recommend(RecommendRequest())
    assert moved == PLAIN


@pytest.mark.parametrize("operation", [OPERATION_ADD, OPERATION_SET, OPERATION_SCALE, OPERATION_ABLATE])
def test_controls_on_a_feature_count_by_operation(server: Running, feature: FeatureRef, operation: Any) -> None:
    strength = 0.0 if operation == OPERATION_ABLATE else 0.5
    control = Control(feature=feature, operation=operation, strength=strength)
    with moves(server) as moved:
        server.recommendation.Recommend(RecommendRequest(controls=[control]))
    name = Operation.Name(operation).removeprefix("OPERATION_").lower()
    assert moved == {**STEERED, **controls("feature", name, "request")}


def test_controls_on_an_attribute_count_as_such_and_cost_no_graph(server: Running) -> None:
    tilt = Control(attribute=AttributeRef(name="year"), operation=OPERATION_ADD, strength=0.5)
    with moves(server) as moved:
        server.recommendation.Recommend(RecommendRequest(controls=[tilt]))
    edit = observed("edit")
    assert edit in STEERED
    assert moved == {
        **{series: times for series, times in STEERED.items() if series != edit},
        **controls("attribute", "add", "request"),
    }


def test_controls_count_by_who_brought_them(server: Running, feature: FeatureRef, session_id: str) -> None:
    own = Control(feature=feature, operation=OPERATION_SCALE, strength=0.5)
    server.session.SetControls(SetControlsRequest(session_id=session_id, controls=[own]))
    with moves(server) as moved:
        server.recommendation.Recommend(RecommendRequest(session_id=session_id, controls=[HORROR]))
    brought = {**controls("feature", "scale", "session"), **controls("concept", "add", "request"), **SESSION_READ}
    assert moved.pop("steersman_session_cache_bytes") > 0
    # The first search is for the concept's candidates.
    assert moved == {**STEERED, **brought, observed("concept"): 1.0, observed("search"): 2.0}


def test_sessions_that_are_remembered(server: Running, session_id: str) -> None:
    event = [Event(event_id="1", item_id="1")]
    with moves(server) as moved:
        server.recommendation.Recommend(RecommendRequest(session_id=session_id, new_events=event))
    appended = {
        _series("steersman_session_events_total", result="appended"): 1.0,
        "steersman_sessions_created_total": 1.0,
    }
    held = moved.pop("steersman_session_cache_bytes")
    assert held > 0
    assert moved.items() >= {**SESSION_READ, **appended}.items()
    with moves(server) as moved:
        server.recommendation.Recommend(RecommendRequest(session_id=session_id))
    assert moved["steersman_session_cache_hits_total"] == 1.0
    assert "steersman_session_cache_misses_total" not in moved
    assert "steersman_session_cache_bytes" not in moved


def test_hidden_states_that_are_kept(bundle_dir: Path, tmp_path: Path, items: Items) -> None:
    hits, misses, held = (f"steersman_state_cache_{name}" for name in ("hits_total", "misses_total", "bytes"))
    request = RecommendRequest(history=History(item_ids=items.ids[:3]))
    with serving(settings_for(tmp_path, bundle_dir, list_change_sample=0)) as server:
        assert scrape(server)[held] == 0.0, "the warm-up leaves nothing behind"
        with moves(server) as moved:
            server.recommendation.Recommend(request)
        assert (moved[misses], moved.get(hits)) == (1.0, None)
        assert moved[held] > 3 * 4 + 16 * 4, "three rows, and a state of 16 numbers"
        with moves(server) as moved:
            server.recommendation.Recommend(RecommendRequest(history=request.history, controls=[HORROR]))
        assert moved[hits] == 1.0
        assert not {misses, held, observed("lower")} & moved.keys()


def test_requests_that_are_refused_count_by_reason_and_are_no_recommendations(
    server: Running, feature: FeatureRef, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with moves(server) as moved:
        failure(server.recommendation.Recommend, RecommendRequest(k=5000, controls=[HORROR]))
    assert moved == {**call(RECOMMEND, "InvalidArgument"), **refused("invalid_request")}
    stale = Control(feature=FeatureRef(id=feature.id, bundle_version="f" * 64), operation=OPERATION_ADD)
    with moves(server) as moved:
        failure(server.recommendation.Recommend, RecommendRequest(controls=[stale]))
    assert moved == {**call(RECOMMEND, "FailedPrecondition"), **refused("feature_of_another_bundle")}
    with moves(server) as moved:
        failure(server.session.GetSession, GetSessionRequest(session_id=session_id))
    assert moved == {**session_call("GetSession", "NotFound"), **redis("get"), **refused("not_found")}

    async def broken(*arguments: Any) -> bool:
        raise RuntimeError("broken")

    monkeypatch.setattr(SessionStore, "delete", broken)
    with moves(server) as moved:
        failure(server.session.DeleteSession, DeleteSessionRequest(session_id=session_id))
    assert moved == {**session_call("DeleteSession", "Internal"), **refused("internal")}


def test_sessions_are_counted_when_they_begin_and_end_and_events_once(server: Running, session_id: str) -> None:
    created, deleted = "steersman_sessions_created_total", "steersman_sessions_deleted_total"

    def results(**counts: float) -> dict[str, float]:
        return {_series("steersman_session_events_total", result=result): n for result, n in counts.items()}

    with moves(server) as moved:
        server.session.AppendEvents(append(1, 2, 2, session_id=session_id))
    assert moved == {
        **session_call("AppendEvents"), **redis("append"), created: 1.0, **results(appended=2.0, duplicate=1.0)
    }  # fmt: skip
    with moves(server) as moved:
        server.session.AppendEvents(append(1, 2, session_id=session_id))
    assert moved == {**session_call("AppendEvents"), **redis("append"), **results(duplicate=2.0)}
    with moves(server) as moved:
        server.session.SetControls(SetControlsRequest(session_id=session_id, controls=[HORROR]))
    assert moved == {**session_call("SetControls"), **redis("set_controls")}
    for existed in (1.0, 0.0):
        with moves(server) as moved:
            server.session.DeleteSession(DeleteSessionRequest(session_id=session_id))
        # A tenant's list of sessions forgets it, too: quotas may have been on before.
        forgotten = redis("delete") | redis("forget_session")
        assert moved == {**session_call("DeleteSession"), **forgotten, **({deleted: 1.0} if existed else {})}
    for new in (1.0, 0.0):
        with moves(server) as moved:
            server.session.SetControls(SetControlsRequest(session_id=session_id))
        assert moved == {**session_call("SetControls"), **redis("set_controls"), **({created: 1.0} if new else {})}


def test_health_checks_and_streams_are_counted_and_streams_not_timed(server: Running) -> None:
    health: Any = HealthStub(server.channel)
    reflection: Any = ServerReflectionStub(server.channel)
    with moves(server) as moved:
        health.Check(HealthCheckRequest())
    assert moved == call("grpc.health.v1.Health/Check")
    unknown = call("grpc.health.v1.Health/Check", "NotFound")
    with moves(server) as moved:
        with pytest.raises(grpc.RpcError):
            health.Check(HealthCheckRequest(service="unknown"))
        while not all(scrape(server)[series] for series in unknown):
            pass
    assert moved == unknown
    reflect = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    with moves(server) as moved:
        list(reflection.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")])))
    assert moved == call(reflect, kind="bidi_stream")
    with moves(server) as moved:
        watching = health.Watch(HealthCheckRequest())
        next(watching)
        watching.cancel()
        ended = _series(
            "grpc_server_handled_total",
            grpc_type="server_stream", grpc_service="grpc.health.v1.Health", grpc_method="Watch", grpc_code="Canceled",
        )  # fmt: skip
        while not scrape(server)[ended]:
            pass
    assert moved == call("grpc.health.v1.Health/Watch", "Canceled", "server_stream")


def test_what_nobody_serves_is_counted_without_its_name(server: Running) -> None:
    with moves(server) as moved:
        unknown: Any = server.channel.unary_unary("/steersman.v1.RecommendationService/Divine")
        with pytest.raises(grpc.RpcError):
            unknown(b"")
    assert moved == {
        **call("unknown/unknown", "Unimplemented", "bidi_stream"),
        **refused("unknown_method"),
    }


def test_the_queue_as_it_fills_and_overflows(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    settings = settings_for(tmp_path, bundle_dir, queue_size=2, max_batch=2)
    with serving(settings) as server, ThreadPoolExecutor(2) as pool:
        first = server.recommendation.Recommend.future(RecommendRequest())
        begun.wait()
        assert scrape(server)["steersman_queue_capacity"] == 2.0
        waiting = [pool.submit(server.recommendation.Recommend, RecommendRequest()) for _ in range(2)]
        while scrape(server)["steersman_queue_depth"] < 2.0:
            pass
        with moves(server) as moved:
            failure(server.recommendation.Recommend, RecommendRequest())
        assert moved == {**call(RECOMMEND, "ResourceExhausted"), **refused("queue_full")}
        with moves(server) as moved:
            go_on.set()
            first.result()
            for answer in waiting:
                answer.result()
        assert moved["steersman_queue_depth"] == -2.0
        # The first one's batch had begun, and was counted, before.
        assert (moved["steersman_batch_size_count"], moved["steersman_queue_wait_seconds_count"]) == (1.0, 2.0)
        assert scrape(server)["steersman_batch_size_sum"] == 3.0


def test_ready_only_between_the_warm_up_and_the_drain(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = slow
    original = load_engine
    loading: list[float | None] = []

    def load(folder: Path, options: EngineOptions, metrics: Metrics) -> Engine:
        loading.append(metrics.registry.get_sample_value("steersman_ready"))
        return original(folder, options, metrics)

    monkeypatch.setattr("steersman_service.processes.engine_host.load_engine", load)
    with serving(settings_for(tmp_path, bundle_dir, drain_seconds=3600)) as server:
        assert (loading, scrape(server)["steersman_ready"]) == ([0.0], 1.0)
        pending = server.recommendation.Recommend.future(RecommendRequest())
        begun.wait()
        server.stop()
        while scrape(server)["steersman_ready"]:
            pass
        go_on.set()
        assert pending.result().items


def test_a_store_that_stops_and_comes_back(bundle_dir: Path, tmp_path: Path, session_id: str) -> None:
    store = EmbeddedValkey.start(tmp_path / "store")
    failed = {_series("steersman_redis_errors_total", operation="visit"): 1.0}
    try:
        # For so long the breaker stays closed, too.
        patience = {"redis_timeout_seconds": 60.0}
        own = {"redis_url": store.url, "list_change_sample": 0, "state_cache_mb": 0, "kv_cache_mb": 0, **patience}
        with serving(settings_for(tmp_path, bundle_dir, **own)) as server:
            while scrape(server)["steersman_redis_up"] != 1.0:
                pass
            store.stop()
            while scrape(server)["steersman_redis_up"]:
                pass
            assert scrape(server)[_series("steersman_redis_errors_total", operation="probe")] >= 1.0
            assert scrape(server)["steersman_ready"] == 1.0
            with moves(server) as moved:
                server.recommendation.Recommend(RecommendRequest(session_id=session_id, fallback_history=History()))
            degraded = {_series("steersman_degraded_total", reason="session_unavailable"): 1.0}
            assert moved == {**PLAIN, **redis("visit"), **failed, **degraded}
            with moves(server) as moved:
                failure(server.recommendation.Recommend, RecommendRequest(session_id=session_id))
            unavailable = refused("session_store_unavailable")
            assert moved == {**call(RECOMMEND, "Unavailable"), **redis("visit"), **failed, **unavailable}
            store = EmbeddedValkey.start(tmp_path / "store")
            while not scrape(server)["steersman_redis_up"]:
                pass
    finally:
        store.stop()


def test_how_much_of_a_list_steering_changes(bundle_dir: Path, tmp_path: Path, items: Items) -> None:
    history = History(item_ids=items.ids[:3])
    with serving(settings_for(tmp_path, bundle_dir, list_change_sample=1)) as server:
        plain = server.recommendation.Recommend(RecommendRequest(history=history))
        before = scrape(server)
        steered = server.recommendation.Recommend(RecommendRequest(history=history, controls=[HORROR]))
        while scrape(server)["steersman_list_change_ratio_count"] < 1.0:
            pass
        after = scrape(server)
        # Nobody asked for the second list: in no count of requests is there more than one.
        for series, once in STEERED.items():
            assert after[series] - before[series] == once or series.startswith(
                ("steersman_inference", "steersman_state_")
            )
        assert after["steersman_batch_size_sum"] - before["steersman_batch_size_sum"] == 1.0
    lists = [{item.item_id for item in answer.items} for answer in (steered, plain)]
    assert lists[0] != lists[1]
    assert after["steersman_list_change_ratio_count"] == 1.0, "the plain one is compared with nothing"
    assert after["steersman_list_change_ratio_sum"] == pytest.approx(len(lists[0] - lists[1]) / 10)


def test_without_metrics_nothing_listens_and_everything_works(bundle_dir: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, bundle_dir, metrics="off", list_change_sample=1)) as server:
        assert server.ports.metrics == 0
        server.session.AppendEvents(append(1, session_id="s"))
        assert server.recommendation.Recommend(RecommendRequest(session_id="s", controls=[HORROR])).items
        failure(server.recommendation.Recommend, RecommendRequest(k=5000))
        assert server.model.GetModelInfo(GetModelInfoRequest()).bundle_version


def test_who_gives_up_and_whose_deadline_passes_are_told_apart(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir)) as server:
        first = server.recommendation.Recommend.future(RecommendRequest())
        begun.wait()
        for code, end, timeout in (("Canceled", "cancel", 60.0), ("DeadlineExceeded", "exception", 2.0)):
            late = call(RECOMMEND, code)
            with moves(server) as moved:
                future = server.recommendation.Recommend.future(RecommendRequest(), timeout=timeout)
                while not scrape(server)["steersman_queue_depth"]:
                    pass
                getattr(future, end)()
                while not all(scrape(server)[series] for series in late):
                    pass
            assert moved.items() >= late.items()
            assert set(moved) - set(late) <= {"steersman_queue_depth"}
        go_on.set()
        first.result()


def test_a_subsystem_has_metrics_of_its_own_and_shares_no_attribute() -> None:
    registries = [Registry() for _ in SUBSYSTEMS]
    parts = [subsystem(registry) for subsystem, registry in zip(SUBSYSTEMS, registries, strict=True)]
    own = [
        {family.name for family in registry.collect() if not family.name.startswith(BACKGROUND[:2])}
        for registry in registries
    ]
    everything = Metrics().registry.collect()
    assert sorted(name for names in own for name in names) == sorted(
        family.name for family in everything if not family.name.startswith(BACKGROUND[:2])
    )
    attributes = [name for part in parts for name in vars(part)]
    assert len(attributes) == len(set(attributes))
