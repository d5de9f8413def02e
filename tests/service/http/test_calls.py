"""Calls through the gateway against the same calls over gRPC, in every format."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from grpc_status import rpc_status
from starlette.applications import Starlette
from starlette.routing import Mount

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.explanation_service_pb2 import ExplainResponse
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest, RecommendResponse
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, GetSessionRequest
from steersman_service.http.app import gateway_app
from steersman_service.http.contract import Method, methods
from steersman_service.http.options import GatewayOptions
from steersman_service.http.server import listening, served
from steersman_service.rpc.upstream import Upstream
from tests.service.http.gateways import (
    FORMATS,
    JSON,
    Format,
    Gateway,
    connect_status,
    frames,
    gatewayed,
    reason,
    recording,
    reply_of,
    violations,
)
from tests.service.telemetry.test_metrics import RECOMMEND, call, scrape
from tests.serving import Running, serving, settings_for

PATH = "/steersman.v1.RecommendationService/Recommend"
STEERED = RecommendRequest(
    history=History(item_ids=["100", "104", "108"]),
    controls=[Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)],
    k=5,
)
in_every_format = pytest.mark.parametrize("written", FORMATS, ids=lambda one: one.name)


def over_grpc(server: Running, method: Method, request: Message) -> tuple[Message | None, Any]:
    stub: Any = server.channel.unary_unary(
        method.path, lambda message: message.SerializeToString(), method.response.FromString
    )
    try:
        return stub(request), None
    except grpc.RpcError as error:
        return None, rpc_status.from_call(error)  # type: ignore[arg-type]


def comparable(message: Message | None) -> Any:
    """Without what differs from call to call."""
    answer = message.recommendation if isinstance(message, ExplainResponse) else message
    if isinstance(answer, RecommendResponse):
        answer.ClearField("request_id")
        answer.ClearField("timings")
    return message


def test_every_service_of_the_contract_is_there() -> None:
    pool = descriptor_pool.Default()
    files = {method.service for method in methods()}
    assert {"steersman.v1.RecommendationService", "steersman.v1.SessionService"} < files
    for service in files:
        listed = {one.name for one in pool.FindServiceByName(service).methods}
        assert {method.name for method in methods() if method.service == service} == listed


@in_every_format
@pytest.mark.parametrize("method", methods(), ids=lambda one: one.path)
def test_every_call_answers_as_over_grpc(server: Running, front: Gateway, method: Method, written: Format) -> None:
    request = method.request()
    message, status = written.send(front, method.path, request, method.response)
    expected, failed = over_grpc(server, method, request)
    assert comparable(message) == comparable(expected)
    assert (status is None) == (failed is None)
    if failed is not None:
        assert status is not None
        assert (status.code, status.message) == (failed.code, failed.message)
        assert violations(status) == violations(failed)
        assert reason(status) == reason(failed)


@in_every_format
def test_a_steered_list_is_the_same(server: Running, front: Gateway, written: Format) -> None:
    message, _ = written.send(front, PATH, STEERED, RecommendResponse)
    assert isinstance(message, RecommendResponse)
    assert len(message.items) == 5
    assert message.applied_controls
    assert comparable(message) == comparable(server.recommendation.Recommend(STEERED))


@in_every_format
def test_what_is_wrong_with_a_field_is_told(front: Gateway, written: Format) -> None:
    request = RecommendRequest(controls=[Control(concept="none", operation=OPERATION_ADD, strength=0.5)])
    _, status = written.send(front, PATH, request, RecommendResponse)
    assert status is not None
    assert status.code == Code.INVALID_ARGUMENT
    assert list(violations(status)) == ["controls[0].concept"]


def test_names_may_be_those_of_the_proto(front: Gateway) -> None:
    for name in ("itemIds", "item_ids"):
        assert len(front.send(PATH, f'{{"history": {{"{name}": ["100"]}}, "k": 3}}').json["items"]) == 3


def test_a_charset_may_be_named(front: Gateway) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert front.send(PATH, '{"k": 1}', headers).status == 200


def test_answers_are_compressed_if_asked(front: Gateway) -> None:
    plain = front.send(PATH, '{"k": 60}').body
    packed = front.send(PATH, '{"k": 60}', {**JSON, "accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain)


def test_a_deadline_travels() -> None:
    with recording() as (target, seen), gatewayed(target) as front:
        front.send(PATH, "{}", {**JSON, "connect-timeout-ms": "30000"})
        front.send(PATH, "{}")
        web = {"content-type": "application/grpc-web+proto", "grpc-timeout": "20S"}
        front.send(PATH, b"\0\0\0\0\0", web)
    given, none, of_web = (call.seconds_left for call in seen)
    assert given is not None
    assert 25 < given < 31
    assert none is None or none > 1e6
    assert of_web is not None
    assert 15 < of_web < 21  # gRPC rounds up


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("connect-timeout-ms", wrong) for wrong in ("soon", "-1", "1e3", "12345678901", "\xb2", "")),
        *(("grpc-timeout", wrong) for wrong in ("10", "S", "123456789S", "1s")),
        *(("connect-protocol-version", wrong) for wrong in ("2", "one")),
        *(("content-encoding", "br"), ("grpc-encoding", "zstd")),
        *(("accept-encoding", "\xe9"), ("steersman-tenant", "\xe9t\xe9"), ("steersman-tenant", "x" * 129)),
    ],
)
def test_headers_that_say_nothing_are_refused_by_name(front: Gateway, name: str, wrong: str) -> None:
    reply = front.send(PATH, "{}", {**JSON, name: wrong})
    assert (reply.status, reply.json["code"]) == (400, "invalid_argument")
    assert list(violations(connect_status(reply))) == [f"header {name}"]
    web = front.send(PATH, b"\0\0\0\0\0", {"content-type": "application/grpc-web", name: wrong})
    assert (web.status, {**web.headers, **frames(web.body)[1]}["grpc-status"]) == (200, "3")


def test_the_longest_deadline_is_one() -> None:
    with recording() as (target, seen), gatewayed(target) as front:
        assert front.send(PATH, "{}", {**JSON, "connect-timeout-ms": "9999999999"}).status == 200
        longest = {"content-type": "application/grpc-web", "grpc-timeout": "99999999H"}
        assert frames(front.send(PATH, b"\0\0\0\0\0", longest).body)[1]["grpc-status"] == "0"
    assert len(seen) == 2


def until_counted(server: Running, code: str) -> None:
    (handled,) = (name for name in call(RECOMMEND, code) if "handled" in name)
    while scrape(server).get(handled, 0) != 1:
        time.sleep(0.01)


def test_a_deadline_that_passes_ends_the_call_here_and_there(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    with serving(settings_for(tmp_path, bundle_dir)) as server, gatewayed(f"127.0.0.1:{server.ports.grpc}") as front:
        reply = front.send(PATH, "{}", {**JSON, "connect-timeout-ms": "300"})
        assert (reply.status, reply.json["code"]) == (504, "deadline_exceeded")
        until_counted(server, "DeadlineExceeded")
        # Without one it is the server's own, whose words come through.
        slow[1].set()
        assert front.send(PATH, "{}").status == 200


def test_a_caller_that_goes_cancels_the_call(
    bundle_dir: Path, tmp_path: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    begun, go_on = slow
    with serving(settings_for(tmp_path, bundle_dir)) as server, gatewayed(f"127.0.0.1:{server.ports.grpc}") as front:
        connection = HTTPConnection("127.0.0.1", front.port)
        connection.request("POST", PATH, "{}", JSON)
        begun.wait()
        connection.close()
        until_counted(server, "Canceled")
        go_on.set()


def test_a_session_lives_across_both(server: Running, front: Gateway) -> None:
    session = str(uuid4())
    body = f'{{"sessionId": "{session}", "events": [{{"eventId": "1", "itemId": "100"}}]}}'
    assert front.send("/steersman.v1.SessionService/AppendEvents", body).json["appended"] == 1
    server.session.AppendEvents(AppendEventsRequest(session_id=session, events=[Event(event_id="2", item_id="104")]))
    read = front.send("/steersman.v1.SessionService/GetSession", f'{{"sessionId": "{session}"}}').json
    assert read["session"]["itemIds"] == ["100", "104"]
    assert server.session.GetSession(GetSessionRequest(session_id=session)).session.total_events == 2


@in_every_format
def test_a_server_that_is_away_is_told_without_its_address(written: Format) -> None:
    gone = listening("127.0.0.1", 0)
    port = gone.getsockname()[1]
    with gone, gatewayed(f"127.0.0.1:{port}") as front:
        _, status = written.send(front, PATH, STEERED, RecommendResponse)
        assert reason(status) == "SERVER_UNAVAILABLE"
        assert status is not None
        assert f":{port}" not in str(status)
        assert "127.0.0.1" not in str(status)
        reply = front.send(PATH, "{}")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert [detail["debug"] for detail in reply.json["details"]][1] == {"retryDelay": "1s"}
        assert front.get("/healthz") == (503, front.get("/healthz").headers, b'{"status":"NOT_SERVING"}')


def test_a_server_that_returns_is_found_again(server: Running) -> None:
    port = listening("127.0.0.1", 0)
    number = port.getsockname()[1]
    port.close()
    with gatewayed(f"127.0.0.1:{number}") as front:
        assert front.send(PATH, "{}").status == 503
        returned = grpc.server(ThreadPoolExecutor(1))
        returned.add_generic_rpc_handlers((_Empty(),))
        assert returned.add_insecure_port(f"127.0.0.1:{number}") == number
        returned.start()
        try:
            while front.send(PATH, "{}").status != 200:
                time.sleep(0.01)
        finally:
            returned.stop(None).wait()


class _Empty(grpc.GenericRpcHandler):
    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


def test_it_waits_no_longer_than_a_second_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(grpc.aio, "insecure_channel", lambda _, options: given.append(dict(options)))
    Upstream("example.org:1")
    assert [options["grpc.max_reconnect_backoff_ms"] for options in given] == [1000]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_what_grpc_itself_says_goes_no_further(code: grpc.StatusCode) -> None:
    def fail(context: grpc.ServicerContext) -> bytes:
        context.abort(code, "at 10.1.2.3:4567")

    with recording(fail) as (target, _), gatewayed(target) as front:
        reply = front.send(PATH, "{}")
        ended = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert reply.status == (503 if ended else 504 if code is grpc.StatusCode.DEADLINE_EXCEEDED else 500)
        assert b"4567" not in reply.body
        assert reason(connect_status(reply))


def test_only_listed_headers_go_further() -> None:
    with recording() as (target, seen), gatewayed(target) as front:
        sent = {"steersman-tenant": "gold", "cookie": "a=b", "authorization": "Basic x", "x-forwarded-for": "1.2.3.4"}
        assert front.send(PATH, "{}", {**JSON, **sent, "grpc-trace-bin": "AAAA", "te": "trailers"}).status == 200
    (call,) = seen
    assert call.metadata.pop("steersman-tenant") == "gold"
    assert call.metadata.pop("authorization") == "Basic x"
    assert call.metadata.pop("steersman-via") == "http"
    assert not {"cookie", "x-forwarded-for", "grpc-trace-bin"} & call.metadata.keys()
    assert set(call.metadata) <= {"user-agent"}


def test_connections_are_kept(front: Gateway) -> None:
    connection = HTTPConnection("127.0.0.1", front.port)
    for _ in range(3):
        connection.request("POST", PATH, '{"k": 1}', JSON)
        assert reply_of(connection).status == 200
        socket = connection.sock
        assert socket is not None
    connection.close()


async def test_it_may_be_mounted_and_the_parents_lifespan_runs(server: Running) -> None:
    lived: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        lived.append("begun")
        yield
        lived.append("ended")

    upstream = Upstream(f"127.0.0.1:{server.ports.grpc}")
    own = gateway_app(upstream, GatewayOptions(), lambda kind, status: None)
    parent = Starlette(routes=[Mount("/api", own)], lifespan=lifespan)
    on = listening("127.0.0.1", 0)
    async with parent.router.lifespan_context(parent), served(parent, on, GatewayOptions()):
        front = Gateway(on.getsockname()[1])
        reply = await asyncio.to_thread(front.send, f"/api{PATH}", '{"k": 2}')
        index = await asyncio.to_thread(front.get, "/api/")
        assert (reply.status, len(reply.json["items"])) == (200, 2)
        assert index.status == 200
        assert lived == ["begun"]
    await upstream.close()
    assert lived == ["begun", "ended"]


def test_a_stream_of_messages_is_no_call(front: Gateway) -> None:
    two = b"\0\0\0\0\0" * 2
    reply = front.send(PATH, two, {"content-type": "application/grpc-web+proto"})
    _, trailers = frames(reply.body)
    assert {**reply.headers, **trailers}["grpc-status"] != "0"


def test_bytes_that_are_no_message_are_refused(front: Gateway) -> None:
    reply = front.send(PATH, b"\xff\xff", {"content-type": "application/proto"})
    assert reason(connect_status(reply)) == "MALFORMED_MESSAGE"
