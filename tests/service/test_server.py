"""The server as a whole: health, reflection, metrics, start and drain."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from pydantic import SecretStr

from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman.v1.session_service_pb2 import AppendEventsRequest, DeleteSessionRequest, Event, GetSessionRequest
from steersman_service.bundle.bundle import Bundle
from steersman_service.errors import StartupError
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from tests.serving import Failure, Running, failure, serving, settings_for

SERVICES = (
    "RecommendationService",
    "SessionService",
    "ExplanationService",
    "ScenarioService",
    "FeatureService",
    "ItemService",
    "ModelService",
)
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
# Frames of HTTP/2.
PING, GOAWAY = 6, 7


def health(channel: grpc.Channel, service: str) -> int:
    stub: Any = HealthStub(channel)
    return int(stub.Check(HealthCheckRequest(service=service)).status)


def watch(channel: grpc.Channel, service: str) -> Iterator[int]:
    stub: Any = HealthStub(channel)
    for update in stub.Watch(HealthCheckRequest(service=service), timeout=60):
        yield int(update.status)


def scrape(server: Running) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics") as response:
        return str(response.read().decode())


def test_health_and_reflection_name_every_service(server: Running) -> None:
    names = [f"steersman.v1.{service}" for service in SERVICES]
    assert {health(server.channel, name) for name in ["", *names]} == {SERVING}
    requests = iter([ServerReflectionRequest(list_services="")])
    stub: Any = ServerReflectionStub(server.channel)
    (answer,) = stub.ServerReflectionInfo(requests)
    listed = {service.name for service in answer.list_services_response.service}
    assert {*names, "grpc.health.v1.Health"} <= listed


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
def test_reflection_answers_under_both_of_its_names(server: Running, version: str) -> None:
    service = f"grpc.reflection.{version}.ServerReflection"
    ask = server.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    requests = (
        ServerReflectionRequest(list_services=""),
        *(ServerReflectionRequest(file_containing_symbol=name) for name in (service, "steersman.v1.ItemService")),
    )
    listed, itself, items = ask(iter(requests), timeout=60)
    assert service in {one.name for one in listed.list_services_response.service}
    for answer, name in ((itself, service), (items, "steersman.v1.ItemService")):
        files = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
        assert name in {f"{file.package}.{one.name}" for file in files for one in file.service}


def test_model_info(server: Running, bundle: Bundle) -> None:
    info = server.model.GetModelInfo(GetModelInfoRequest())
    assert (info.bundle_version, info.bundle_format) == (bundle.version, "1.7")
    assert (info.backend, info.device) == ("onnx", "cpu")
    assert (info.shapes.items, info.shapes.window_length, info.shapes.window_stride) == (60, 20, 5)
    assert (info.limits.k, info.limits.session_events, info.limits.strength) == (1000, 24, 10.0)
    assert (info.limits.set_items, info.limits.goals) == (1000, 4)
    assert (info.limits.scenarios, info.limits.scenario_bytes) == (1000, 64 << 10)
    assert list(info.attributes) == ["genres", "year", "co_consumption", "popularity", "exposure"]
    assert info.server_version
    assert info.figures


def test_metrics_count_calls_and_name_the_bundle(server: Running, bundle: Bundle) -> None:
    server.recommendation.Recommend(RecommendRequest())
    failure(server.recommendation.Recommend, RecommendRequest(k=5000))
    text = scrape(server)
    call = 'grpc_method="Recommend",grpc_service="steersman.v1.RecommendationService",grpc_type="unary"'
    for code in ("OK", "InvalidArgument"):
        assert f'grpc_server_handled_total{{grpc_code="{code}",{call}}}' in text
    assert f"grpc_server_handling_seconds_count{{{call}}}" in text
    assert f'version="{bundle.version}"' in text
    for name in (
        "steersman_batch_size_bucket",
        "steersman_queue_depth",
        'steersman_inference_seconds_sum{stage="search"}',
    ):
        assert name in text


def test_an_idle_connection_may_be_pinged_each_second(server: Running) -> None:
    """As Envoy does, to find servers that died: HTTP/2 on the wire, where nothing but pings is sent."""
    settings, ping = bytes.fromhex("000000040000000000"), bytes.fromhex("000008060000000000") + b"12345678"
    with socket.create_connection(("127.0.0.1", server.ports.grpc), timeout=60) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        read = connection.makefile("rb")
        for _ in range(5):
            connection.sendall(ping)
            acknowledged = False
            while not acknowledged:
                header = read.read(9)
                kind, flags = header[3], header[4]
                assert kind != GOAWAY, read.read(int.from_bytes(header[:3], "big"))
                read.read(int.from_bytes(header[:3], "big"))
                acknowledged = (kind, flags) == (PING, 1)
            time.sleep(0.6)


def test_unknown_methods_and_garbage(server: Running) -> None:
    def call(method: str) -> grpc.RpcError:
        garbled: Any = server.channel.unary_unary(f"/steersman.v1.{method}")
        with pytest.raises(grpc.RpcError) as caught:
            garbled(b"\xff\xff")
        return caught.value

    assert call("RecommendationService/Divine").code() is grpc.StatusCode.UNIMPLEMENTED
    assert "Traceback" not in str(call("RecommendationService/Recommend").details())
    assert "Divine" not in scrape(server)


def test_what_was_not_foreseen_stays_in_the_log(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*arguments: Any) -> bool:
        raise RuntimeError("secret")

    monkeypatch.setattr(SessionStore, "delete", broken)
    failed = failure(server.session.DeleteSession, DeleteSessionRequest(session_id="s"))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in failed.message
    assert failed.metadata["request_id"]


def test_a_second_server_is_refused(server: Running, bundle_dir: Path, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, bundle_dir, port=server.ports.grpc)
    with pytest.raises(StartupError, match="another server"), serving(settings):
        pass
    settings = settings_for(tmp_path, bundle_dir, metrics_port=server.ports.metrics)
    with pytest.raises(StartupError, match="metrics cannot listen"), serving(settings):
        pass


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"max_session_events": 19}, "max_session_events"),
        ({"redis_url": SecretStr("http://localhost")}, "redis_url"),
        ({"device": "cuda"}, "CUDA"),
        ({"device": "cuda", "engine": "process"}, "CUDA"),
        ({"device": "cuda", "backend": "torch"}, "GPU"),
        ({"bundle": Path("nowhere")}, "manifest.json"),
        ({"bundle": Path("nowhere"), "engine": "process"}, "manifest.json"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    bundle_dir: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    settings = settings_for(tmp_path, bundle_dir).model_copy(update=changes)
    with pytest.raises(StartupError, match=why), serving(settings):
        pass


def test_health_of_sessions_follows_redis_and_liveness_does_not(bundle_dir: Path, tmp_path: Path) -> None:
    store = EmbeddedValkey.start(tmp_path / "store")
    try:
        with serving(settings_for(tmp_path, bundle_dir, redis_url=store.url)) as server:
            statuses = watch(server.channel, "steersman.v1.SessionService")
            assert next(statuses) == SERVING
            store.stop()
            assert next(statuses) == NOT_SERVING
            assert health(server.channel, "") == health(server.channel, "steersman.v1.RecommendationService") == SERVING
            store = EmbeddedValkey.start(tmp_path / "store")
            assert next(statuses) == SERVING
    finally:
        store.stop()


def test_a_drain_finishes_what_is_in_flight(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir, drain_seconds=3600)) as server:
        liveness = watch(server.channel, "")
        assert next(liveness) == SERVING
        pending = server.recommendation.Recommend.future(RecommendRequest(session_id="s"))
        begun.wait()
        server.stop()
        assert next(liveness) == NOT_SERVING
        go_on.set()
        assert len(pending.result().items) == 10


def test_overload_is_refused_at_once(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir, queue_size=2, max_batch=1)) as server:
        first = server.recommendation.Recommend.future(RecommendRequest())
        begun.wait()
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(failure, server.recommendation.Recommend, RecommendRequest()) for _ in range(6)]
            # Two of them wait; the other four are answered while the engine stands still.
            refused: list[Failure] = []
            while len(refused) < 4:
                refused = [call.result() for call in calls if call.done() and not call.exception()]
            assert {failed.code for failed in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert all(failed.retry_seconds for failed in refused)
            go_on.set()
        assert len(first.result().items) == 10


def test_who_gives_up_leaves_the_queue(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir)) as server:
        first = server.recommendation.Recommend.future(RecommendRequest())
        begun.wait()
        gone = server.recommendation.Recommend.future(RecommendRequest())
        while "steersman_queue_depth 1.0" not in scrape(server):
            pass
        gone.cancel()
        with pytest.raises(grpc.RpcError) as late:
            server.recommendation.Recommend(RecommendRequest(), timeout=0.2)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        while "steersman_queue_depth 0.0" not in scrape(server):
            pass
        go_on.set()
        assert len(first.result().items) == 10
        assert "steersman_batch_size_sum 1.0" in scrape(server)


BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "steersman_training", "polars"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def without_torch(tmp_path: Path) -> dict[str, str]:
    """The environment of a process, and of its children, that can import neither torch nor what training needs."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCKER)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "blocked")}


@pytest.mark.parametrize("engines", ["0", "1"])
def test_a_server_starts_where_neither_torch_nor_training_can_be_imported(
    bundle_dir: Path, tmp_path: Path, without_torch: dict[str, str], engines: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "steersman_service",
        "serve",
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--log-format",
        "json",
    ]
    command += ["--engines", engines, "--data", str(tmp_path), "--bundle", str(bundle_dir)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=without_torch) as process:
        assert process.stderr
        ready = next(line for line in process.stderr if '"ready"' in line)
        address = ready.split('"address": "')[1].split('"')[0]
        with grpc.insecure_channel(address) as channel:
            assert ModelServiceStub(channel).GetModelInfo(GetModelInfoRequest()).backend == "onnx"
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 0, rest
    assert '"stopped"' in rest


def test_the_torch_backend_without_torch(bundle_dir: Path, tmp_path: Path, without_torch: dict[str, str]) -> None:
    command = [
        sys.executable,
        "-m",
        "steersman_service",
        "serve",
        "--backend",
        "torch",
        "--port",
        "0",
        "--metrics-port",
        "0",
    ]
    command += ["--engines", "0", "--data", str(tmp_path), "--bundle", str(bundle_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=without_torch)
    assert done.returncode == 1
    assert "torch is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_embedded_store_that_is_killed_comes_back_with_everything(bundle_dir: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, bundle_dir)) as server:
        events = [Event(event_id=str(n), item_id=str(n)) for n in range(3)]
        server.session.AppendEvents(AppendEventsRequest(session_id="s", events=events))
        os.kill(int((tmp_path / "valkey" / "valkey.pid").read_text()), signal.SIGKILL)
        # Health is asked for once a second, and may have missed it.
        found = until_answered(server.session.GetSession, GetSessionRequest(session_id="s"))
        assert found.session.item_ids == ["0", "1", "2"]


def until_answered(call: Callable[[Any], Any], request: Any) -> Any:
    """The answer, after a minute at most of UNAVAILABLE."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return call(request)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
