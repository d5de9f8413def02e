"""Every RPC as Connect (JSON and binary) and gRPC-Web. The only importer of connectrpc, which is young.

Binary messages are handed on as they came, unread. JSON is read and written here, by the descriptors.
"""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import structlog
from connectrpc.code import Code
from connectrpc.codec import Codec
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from protobuf.wkt import Any as AnyMessage
from protobuf.wkt import Struct

from steersman_service.checks import MAX_AUTHORIZATION_BYTES, MAX_TENANT_BYTES, check_bytes
from steersman_service.errors import InternalError, MessageTooLarge, RequestError, raise_if_any
from steersman_service.http.contract import Method
from steersman_service.http.json_messages import from_json, to_json
from steersman_service.http.refusal import connect_code, headers_of, new_status, readable

# Headers that become metadata of the call. No other does: no cookie makes a page of another site somebody.
AUTHORIZATION = "authorization"
FORWARDED = {
    "steersman-tenant": MAX_TENANT_BYTES,
    "steersman-bundle-version": MAX_TENANT_BYTES,
    AUTHORIZATION: MAX_AUTHORIZATION_BYTES,
}
"""With the most bytes of each."""
# The fastest: most answers are small, and a server nearby is reached faster than they are compressed.
GZIP_LEVEL = 1
# A larger body of JSON is read beside the event loop, which answers others meanwhile, and one at a time.
MOST_READ_AT_ONCE = 16 << 10
READER = ThreadPoolExecutor(1, "json")

log = structlog.get_logger()


class Server(Protocol):
    """Takes and gives messages as bytes."""

    async def call(
        self, path: str, request: bytes, seconds: float | None, metadata: list[tuple[str, str]]
    ) -> bytes | Status: ...


class Answer(NamedTuple):
    """Of a server, to be written as the caller wants it."""

    data: bytes
    kind: type[Message]


class ConnectCalls(ConnectASGIApplication[Server]):
    """The ASGI application of all `methods`. It has no lifespan, and may be mounted anywhere."""

    def __init__(self, server: Server, methods: Iterable[Method], max_message_bytes: int) -> None:
        """Bodies and what they unpack to have `max_message_bytes` at most."""
        listed = [*methods]
        super().__init__(
            service=server,
            endpoints=lambda server: {method.path: _endpoint(server, method) for method in listed},
            read_max_bytes=max_message_bytes,
            compressions=[_Gzip(GZIP_LEVEL)],
            codecs=[_Binary(), _Json()],
        )

    @property
    def path(self) -> str:
        return "/"


class _Gzip(GzipCompression):
    """Of one member: for each of many, though empty, the library copies all that follow it."""

    def decompress(self, data: bytes | bytearray | memoryview, read_max_bytes: int | None = None) -> bytes:
        unpacker = zlib.decompressobj(wbits=31)
        # 0 is no limit.
        unpacked = unpacker.decompress(data, 0 if read_max_bytes is None else read_max_bytes + 1)
        if read_max_bytes is not None and len(unpacked) > read_max_bytes:
            raise _error(new_status(MessageTooLarge(len(unpacked), read_max_bytes)))
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("it is not one whole gzip stream")
        return unpacked


class _Typed(bytes):
    """A request in JSON, not read yet."""


class _Binary(Codec[Answer, Any]):
    def name(self) -> str:
        return "proto"

    def encode(self, message: Answer) -> bytes:
        return message.data

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Any:
        return bytes(data)


class _Json(Codec[Answer, Any]):
    def name(self) -> str:
        return "json"

    def encode(self, message: Answer) -> bytes:
        try:
            return to_json(message.kind.FromString(message.data))
        except Exception:
            log.exception("answer not written as JSON")
            raise _error(new_status(InternalError())) from None

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Any:
        return _Typed(data)


class _Detail(ErrorDetail):
    """A detail with its fields beside its bytes."""

    def __init__(self, detail: any_pb2.Any) -> None:
        super().__init__(AnyMessage(type_url=detail.type_url, value=detail.value))
        fields = readable(detail)
        self._readable = Struct.from_json(json.dumps(fields)) if fields else None

    def value(self, *_: object) -> Any:
        return self._readable


def _endpoint(server: Server, method: Method) -> Any:
    info = MethodInfo(
        name=method.name,
        service_name=method.service,
        input=method.request,
        output=method.response,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.UNARY,
    )
    return Endpoint.unary(info, _function(server, method))


def _function(server: Server, method: Method) -> Callable[[Any, RequestContext[Any, Any]], Awaitable[Any]]:
    async def call(request: bytes, context: RequestContext[Any, Any]) -> Answer:
        try:
            if isinstance(request, _Typed):
                request = await _read(request, method.request)
            seconds = None if context.timeout_ms is None else max(0.0, context.timeout_ms / 1e3)
            answer = await server.call(method.path, request, seconds, _metadata(context))
        except RequestError as error:
            answer = new_status(error)
        except Exception:
            log.exception("call failed", method=method.path)
            answer = new_status(InternalError())
        if isinstance(answer, bytes):
            return Answer(answer, method.response)
        context.response_headers.update(headers_of(answer))
        raise _error(answer)

    return call


async def _read(typed: bytes, kind: type[Message]) -> bytes:
    """In binary. Raises InvalidRequest."""
    if len(typed) <= MOST_READ_AT_ONCE:
        return from_json(typed, kind).SerializeToString()
    return await asyncio.get_running_loop().run_in_executor(READER, lambda: from_json(typed, kind).SerializeToString())


def _metadata(context: RequestContext[Any, Any]) -> list[tuple[str, str]]:
    """Raises InvalidRequest for a value that is too long."""
    found = [(name, value) for name in FORWARDED if (value := context.request_headers.get(name, ""))]
    raise_if_any([each for name, value in found for each in check_bytes(f"header {name}", value, 0, FORWARDED[name])])
    return found


def _error(status: Status) -> ConnectError:
    return ConnectError(Code(connect_code(status)), status.message, [_Detail(detail) for detail in status.details])
