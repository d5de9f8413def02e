"""A real gateway in a thread, a server behind it that writes down what it is sent, and the three formats that a call may have."""

import asyncio
import json
import ssl
import struct
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import grpc
import uvloop
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from steersman_service.gateway import gateway
from steersman_service.http.options import GatewayOptions
from steersman_service.http.server import listening

M = TypeVar("M", bound=Message)

JSON = {"content-type": "application/json"}
PATIENCE_SECONDS = 60.0
TRAILERS = 0x80


class Reply(NamedTuple):
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Gateway(NamedTuple):
    """One that listens."""

    port: int

    def send(
        self, path: str, body: bytes | str | Iterator[bytes] | None = None, headers: Any = JSON, method: str = "POST"
    ) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body, headers)
            return reply_of(connection)
        finally:
            connection.close()

    def get(self, path: str, headers: Any = {}) -> Reply:  # noqa: B006
        return self.send(path, None, headers, "GET")


def reply_of(connection: HTTPConnection) -> Reply:
    response = connection.getresponse()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextmanager
def gatewayed(
    target: str,
    count: Callable[[str, int], None] | None = None,
    context: ssl.SSLContext | None = None,
    **options: Any,
) -> Iterator[Gateway]:
    """A gateway in front of the gRPC server at `target`, drained at the end."""
    ready, box = threading.Event(), dict[str, Any]()

    async def run() -> None:
        stop = asyncio.Event()
        on = listening("127.0.0.1", 0)
        given = GatewayOptions(**options)
        async with gateway(on, target, given, context=context, count=count or (lambda kind, status: None)):
            loop = asyncio.get_running_loop()
            box.update(port=on.getsockname()[1], stop=lambda: loop.call_soon_threadsafe(stop.set))
            ready.set()
            await stop.wait()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(run())
        except BaseException as error:
            box["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=main)
    thread.start()
    ready.wait()
    try:
        if "error" not in box:
            yield Gateway(box["port"])
    finally:
        if "stop" in box:
            box["stop"]()
        thread.join()
    if "error" in box:
        raise box["error"]


class Seen(NamedTuple):
    """A call as the server behind the gateway saw it."""

    path: str
    request: bytes
    metadata: dict[str, str]
    seconds_left: float | None


@contextmanager
def recording(
    answer: Callable[[grpc.ServicerContext], bytes] = lambda context: b"",
) -> Iterator[tuple[str, list[Seen]]]:
    """A gRPC server that answers every call alike; gives its address, and what it has seen."""
    seen: list[Seen] = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            def call(request: bytes, context: grpc.ServicerContext) -> bytes:
                metadata = {key: str(value) for key, value in context.invocation_metadata()}
                seen.append(Seen(details.method, request, metadata, context.time_remaining()))
                return answer(context)

            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", seen
    finally:
        server.stop(None).wait()


class Outcome(NamedTuple):
    """Of a call in any format: a message, or an error."""

    message: Message | None
    status: Status | None


class Format(NamedTuple):
    """A way to write a call."""

    name: str
    send: Callable[[Gateway, str, Message, type[Message]], Outcome]


def _connect_json(sent_to: Gateway, path: str, request: Message, kind: type[Message]) -> Outcome:
    reply = sent_to.send(path, json_format.MessageToJson(request))
    if reply.status == 200:
        return Outcome(json_format.Parse(reply.body, kind()), None)
    return Outcome(None, connect_status(reply))


def _connect_proto(sent_to: Gateway, path: str, request: Message, kind: type[Message]) -> Outcome:
    reply = sent_to.send(path, request.SerializeToString(), {"content-type": "application/proto"})
    if reply.status == 200:
        return Outcome(kind.FromString(reply.body), None)
    return Outcome(None, connect_status(reply))


def _grpc_web(sent_to: Gateway, path: str, request: Message, kind: type[Message]) -> Outcome:
    data = request.SerializeToString()
    framed = struct.pack(">BI", 0, len(data)) + data
    reply = sent_to.send(path, framed, {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"})
    assert reply.status == 200
    messages, trailers = frames(reply.body)
    told = trailers or reply.headers
    if told["grpc-status"] == "0":
        (message,) = messages
        return Outcome(kind.FromString(message), None)
    status = Status.FromString(b64decode(told["grpc-status-details-bin"] + "=="))
    assert (str(status.code), status.message) == (told["grpc-status"], unquote(told["grpc-message"]))
    return Outcome(None, status)


FORMATS = (
    Format("Connect JSON", _connect_json),
    Format("Connect binary", _connect_proto),
    Format("gRPC-Web", _grpc_web),
)


def frames(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Messages and trailers of a gRPC-Web body."""
    messages, trailers = list[bytes](), dict[str, str]()
    while body:
        flag, size = struct.unpack(">BI", body[:5])
        data, body = body[5 : 5 + size], body[5 + size :]
        if flag & TRAILERS:
            lines = data.decode().splitlines()
            trailers = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        else:
            messages.append(data)
    return messages, trailers


def connect_status(reply: Reply) -> Status:
    """The error of a Connect answer. What can be read of a detail has to be what its bytes say."""
    told = reply.json
    status = Status(code=Code.Value(told["code"].upper().replace("CANCELED", "CANCELLED")), message=told["message"])
    for detail in told.get("details", ()):
        kind = getattr(error_details_pb2, detail["type"].rpartition(".")[2])
        message = kind.FromString(b64decode(detail["value"] + "=="))
        assert json_format.MessageToDict(message) == detail["debug"]
        status.details.add().Pack(message)
    return status


def reason(status: Status | None) -> str:
    """Of its ErrorInfo."""
    assert status
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.domain == "steersman"
    assert len(info.metadata["request_id"]) == 32
    return str(info.reason)


def violations(status: Status | None) -> dict[str, str]:
    """Of its BadRequest."""
    assert status
    bad = error_details_pb2.BadRequest()
    any(detail.Unpack(bad) for detail in status.details)
    return {violation.field: violation.description for violation in bad.field_violations}
