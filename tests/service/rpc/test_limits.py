"""What a front end takes of one connection, of all, and of streams."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from bench.http2_load import END_HEADERS, HEADERS, PREFACE, SETTINGS, TABLE_SIZE, frame, request_headers
from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.model_service_pb2_grpc import ModelServiceStub
from steersman_service.rpc import streams, unread
from steersman_service.scheduling.batcher import Batcher
from tests.serving import Running, explain, failure, serving, settings_for

MOST_STREAMS, MOST_CONNECTIONS = 20, 12


@pytest.fixture(scope="module")
def limited(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits: dict[str, Any] = {"max_streams": MOST_STREAMS, "max_connections": MOST_CONNECTIONS}
    settings = settings_for(tmp_path_factory.mktemp("limited"), bundle_dir, **limits, max_connection_idle_seconds=1)
    with serving(settings) as server:
        yield server


def another(server: Running) -> grpc.Channel:
    """A connection of its own."""
    backoff = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]
    return grpc.insecure_channel(f"127.0.0.1:{server.ports.grpc}", [("grpc.use_local_subchannel_pool", 1), *backoff])


def answers(channel: grpc.Channel) -> bool:
    return bool(ModelServiceStub(channel).GetModelInfo(GetModelInfoRequest(), wait_for_ready=True, timeout=60).limits.k)


def health(channel: grpc.Channel) -> Any:
    """Its stub, which has no types."""
    return HealthStub(channel)


def reflection(channel: grpc.Channel) -> Any:
    stub: Any = ServerReflectionStub(channel)
    return stub.ServerReflectionInfo


def asked() -> Iterator[ServerReflectionRequest]:
    yield ServerReflectionRequest(list_services="")


def soon(call: Callable[[], Any]) -> Any:
    """Its answer, once it has one."""
    for _ in range(100):
        try:
            return call()
        except grpc.RpcError:
            time.sleep(0.1)
    raise AssertionError("no answer in ten seconds")


def test_streams_are_bounded_of_a_connection_and_of_all(limited: Running) -> None:
    with ExitStack() as stack:
        channels = [stack.enter_context(another(limited)) for _ in range(2)]
        watches = [health(channels[0]).Watch(HealthCheckRequest()) for _ in range(streams.MOST_OF_CONNECTION)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as caught:
            next(health(channels[0]).Watch(HealthCheckRequest()))
        assert (explain(caught.value).code, explain(caught.value).reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_STREAMS",
        )
        more = [health(channels[1]).Watch(HealthCheckRequest()) for _ in range(MOST_STREAMS - len(watches))]
        for watch in more:
            next(watch)
        with pytest.raises(grpc.RpcError) as caught:
            next(reflection(channels[1])(asked()))
        assert explain(caught.value).reason == "TOO_MANY_STREAMS"
        assert answers(channels[0])  # calls are no streams
        # Health checks that are no streams are answered whatever is open.
        assert health(channels[0]).Check(HealthCheckRequest()).status
        for watch in (*watches, *more):
            watch.cancel()
        assert soon(lambda: next(reflection(channels[1])(asked())))


def test_a_name_of_a_service_that_is_none_is_not_kept_for_as_long_as_it_is_watched(limited: Running) -> None:
    long = HealthCheckRequest(service="x" * 5000)
    with pytest.raises(grpc.RpcError) as caught:
        next(health(limited.channel).Watch(long))
    assert explain(caught.value).reason == "MESSAGE_TOO_LARGE"
    assert failure(health(limited.channel).Check, long).reason == "MESSAGE_TOO_LARGE"


def test_a_stream_that_says_nothing_ends(limited: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.2)
    gone = threading.Event()

    def silent() -> Iterator[ServerReflectionRequest]:
        yield ServerReflectionRequest(list_services="")
        gone.wait(60)

    with pytest.raises(grpc.RpcError) as caught:
        list(reflection(limited.channel)(silent()))
    gone.set()
    assert explain(caught.value).reason == "SILENT_STREAM"


def test_calls_without_a_message_are_ended_and_hold_up_nobody(
    limited: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "LONGEST_SECONDS", 1.0)
    monkeypatch.setattr(unread, "MOST", 50)
    head = frame(HEADERS, END_HEADERS, 0, request_headers("/steersman.v1.ModelService/GetModelInfo", 3_600_000))
    with another(limited) as other, socket.create_connection(("127.0.0.1", limited.ports.grpc)) as connection:
        assert answers(other)
        begun = (head[:5] + stream.to_bytes(4) + head[9:] for stream in range(1, 401, 2))
        uncompressed = frame(SETTINGS, 0, 0, struct.pack(">HI", TABLE_SIZE, 0))
        connection.sendall(PREFACE + uncompressed + b"".join(begun))
        connection.settimeout(10)
        received = b""
        while received.count(b"grpc-status\x018") < 200 - unread.MOST:  # refused at once
            received += connection.recv(1 << 16)
        assert failure(ModelServiceStub(other).GetModelInfo, GetModelInfoRequest()).reason == "TOO_MANY_CALLS"
        assert soon(
            lambda: ModelServiceStub(other).GetModelInfo(GetModelInfoRequest())
        )  # when the others have been ended


def test_connections_beyond_the_limit_are_closed_and_idle_ones_make_room(limited: Running) -> None:
    def closed(connection: socket.socket) -> bool:
        connection.settimeout(0.2)
        try:
            return not connection.recv(1)
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    with another(limited) as other, ExitStack() as stack:
        assert answers(other)
        address = ("127.0.0.1", limited.ports.grpc)
        made = [stack.enter_context(socket.create_connection(address)) for _ in range(2 * MOST_CONNECTIONS)]
        assert sum(map(closed, made)) >= MOST_CONNECTIONS
        assert answers(other)
    # Those are gone, and so is soon every other one that makes no call.
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS + 1):
            assert answers(stack.enter_context(another(limited)))


def test_a_call_that_would_wait_for_more_than_half_of_its_time_is_refused_before_it_is_parsed(
    limited: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batcher, "wait_seconds", 5.0)
    failed = refused(limited.channel, b"\xff\xff no message at all", 9.0)
    assert (failed.reason, failed.retry_seconds) == ("DEADLINE_TOO_NEAR", 5.0)
    assert failed.metadata["request_id"]
    assert refused(limited.channel, b"\xff\xff no message at all", 60.0).reason == "MALFORMED_MESSAGE"
    assert answers(limited.channel)  # it asks no engine


def refused(channel: grpc.Channel, data: bytes, seconds: float) -> Any:
    call: Any = channel.unary_unary("/steersman.v1.RecommendationService/Recommend")
    with pytest.raises(grpc.RpcError) as caught:
        call(data, timeout=seconds)
    return explain(caught.value)
