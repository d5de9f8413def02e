"""What happens around every call: a request id, a deadline, metrics, the log, and errors turned into statuses."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from random import getrandbits
from typing import Any, NamedTuple

import grpc
import structlog
from google.protobuf.message import DecodeError

from steersman_service.errors import (
    AnswerTooLarge,
    DeadlinePassed,
    InternalError,
    MalformedMessage,
    MessageTooLarge,
    RequestError,
    TooManyCalls,
    UnknownMethod,
    grpc_status,
)
from steersman_service.telemetry.metrics import CallMetrics, CallType, Metrics

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Awaitable[Any]]

# A caller that gives up at its deadline may be heard of this much before the server's clock has reached it.
DEADLINE_SLACK_SECONDS = 0.01
# Fields of requests that say how large the answer may be.
SIZES = ("page_size", "k", "max_item_ids")
# The name of every method that is not there, in log and metrics.
UNKNOWN = "/unknown/unknown"
# Answered however many calls are under way.
HEALTH_PREFIX = "/grpc.health."

_deadline: ContextVar[float] = ContextVar("deadline")


def seconds_left() -> float:
    """Until the deadline of the call that is being answered: its caller's, or else the server's own."""
    return _deadline.get() - time.monotonic()


class _Method(NamedTuple):
    name: str
    """ "/package.Service/Method" """
    kind: CallType
    parse: Callable[[bytes], Any] | None
    """Bytes -> request message. None: the bytes are not looked at."""
    most_bytes: int
    """Of a request message."""
    behaviour: Behaviour
    serialize: Callable[[Any], bytes]
    metrics: CallMetrics


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Lets nothing unhandled out: without it grpc sends the text of any exception to the caller.

    Requests are parsed here, not in grpc, and methods that are not there are answered here: both are errors with details, counted
    and logged as any other.

    One line a call goes to the log: at level debug if it was answered, info if it failed, warning if it took
    `slow_seconds` or longer. None holds what the caller sent, but for the request id.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        slow_seconds: float,
        most_calls: int,
        max_message_bytes: int,
        deadline_seconds: float = float("inf"),
    ) -> None:
        """Refuses calls while `most_calls` are in flight, health checks apart, and messages of more than `max_message_bytes`, either way.

        `deadline_seconds` is for calls that bring no deadline. Streams have none.
        """
        self._metrics = metrics
        self._most_calls = most_calls
        self._slow_seconds = slow_seconds
        self._deadline_seconds = deadline_seconds
        self._max_message_bytes = max_message_bytes
        self._handlers: dict[str, Any] = {}
        # Bound once: a line that is filtered out costs next to nothing.
        self._log = structlog.get_logger().bind()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # As a stream of answers to a stream, whatever the caller takes it for: it is answered without any message.
        self._unknown = self._wrapped(UNKNOWN, grpc.stream_stream_rpc_method_handler(_unknown_method))

    @property
    def running(self) -> int:
        """Calls in flight; no streams."""
        return self._running

    async def idle(self) -> None:
        """Waits until no call is in flight. Streams do not count: those of health checks never end by themselves."""
        await self._idle.wait()

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        method: str = handler_call_details.method
        if method not in self._handlers:
            handler = await continuation(handler_call_details)
            # An unknown method has no handler. All of them are one in log and metrics: callers make up their names.
            if handler is None:
                return self._unknown
            self._handlers[method] = self._wrapped(method, handler)
        return self._handlers[method]

    def _wrapped(self, name: str, handler: Any) -> Any:
        service, _, short_name = name.removeprefix("/").partition("/")
        kind, make, behaviour = _shape(handler, self._checked)
        counted = self._metrics.calls(kind, service, short_name)
        method = _Method(
            name,
            kind,
            handler.request_deserializer,
            self._max_message_bytes,
            behaviour,
            handler.response_serializer,
            counted,
        )

        async def call(sent: Any, context: Context) -> Any:
            return await self._call(method, sent, context)

        return make(call, None, None)  # what it is given is parsed there, and what it gives is serialized

    async def _call(self, method: _Method, sent: Any, context: Context) -> Any:
        """`sent` are the bytes of the request, or an iterator of those of several."""
        request, request_id = None, _new_request_id()
        start, code = time.perf_counter(), grpc.StatusCode.OK
        refusal: RequestError | None = None
        self._begin(method)
        try:
            self._admit(method)
            request = _parsed(method, sent)
            request_id = _request_id(request, request_id)
            if method.kind != "unary":
                return await method.behaviour(request, context)
            answer = await self._in_time(method, request, context)
            return self._checked(method.serialize(answer), request)
        except asyncio.CancelledError:
            code = _gone(context)
            raise
        except grpc.aio.AbortError:
            code = context.code()
            raise
        except RequestError as error:
            refusal = error.with_traceback(None)
        except Exception:
            self._log.exception("call failed", method=method.name, request_id=_printable(request_id))
            refusal = InternalError()
        finally:
            self._end(method, code, refusal, request_id, time.perf_counter() - start)
        # A refused request may be large, parsed a hundred MiB: it goes before the answer does.
        del request, sent
        return await context.abort_with_status(grpc_status(refusal, request_id))

    def _admit(self, method: _Method) -> None:
        if self._running > self._most_calls and not method.name.startswith(HEALTH_PREFIX):
            raise TooManyCalls()

    async def _in_time(self, method: _Method, request: Any, context: Context) -> Any:
        """The answer. Raises DeadlinePassed at the server's own deadline; at the caller's, gRPC cancels."""
        given = context.time_remaining()
        _deadline.set(time.monotonic() + (self._deadline_seconds if given is None else given))
        limit = asyncio.timeout(
            self._deadline_seconds if given is None and self._deadline_seconds < float("inf") else None
        )
        try:
            async with limit:
                return await method.behaviour(request, context)
        except TimeoutError:
            if not limit.expired():
                raise
            why = f"it took longer than {self._deadline_seconds:g} s, the server's limit for calls without a deadline"
            raise DeadlinePassed(why) from None

    def _checked(self, answer: bytes, request: Any) -> bytes:
        """Raises AnswerTooLarge: gRPC would refuse to send it, and nobody here would hear of that."""
        if len(answer) > self._max_message_bytes:
            field = next((field for field in SIZES if hasattr(request, field)), None)
            raise AnswerTooLarge(len(answer), self._max_message_bytes, field)
        return answer

    def _begin(self, method: _Method) -> None:
        method.metrics.started()
        if method.kind == "unary":
            self._running += 1
            self._idle.clear()

    def _end(
        self, method: _Method, code: grpc.StatusCode, refusal: RequestError | None, request_id: str, seconds: float
    ) -> None:
        """Counts and logs the call before its answer is sent: who has the answer finds it counted."""
        if refusal is not None:
            code = refusal.status
            self._metrics.refused(refusal)
        method.metrics.handled(code, seconds)
        log = self._log.info if refusal else self._log.debug
        if method.kind == "unary":
            self._running -= 1
            if not self._running:
                self._idle.set()
            if seconds >= self._slow_seconds:
                log = self._log.warning
            elif code is not grpc.StatusCode.OK:
                log = self._log.info
        log(
            "call",
            method=method.name,
            code=code.name,
            reason=refusal.reason if refusal else "",
            ms=round(1e3 * seconds, 3),
            request_id=_printable(request_id),
        )


def _shape(handler: Any, checked: Callable[[bytes, Any], bytes]) -> tuple[CallType, Callable[..., Any], Behaviour]:
    """Which kind of call it is, what makes its handler, and its behaviour as one coroutine."""
    if handler.unary_unary is not None:
        return "unary", grpc.unary_unary_rpc_method_handler, handler.unary_unary
    stream = handler.unary_stream or handler.stream_stream
    behaviour = _written(stream, lambda answer: checked(handler.response_serializer(answer), None))
    if handler.unary_stream is not None:
        return "server_stream", grpc.unary_stream_rpc_method_handler, behaviour
    return "bidi_stream", grpc.stream_stream_rpc_method_handler, behaviour


class _Writer:
    """The context of a stream that writes its answers by itself."""

    def __init__(self, context: Context, serialized: Callable[[Any], bytes]) -> None:
        self._context = context
        self._serialized = serialized

    async def write(self, answer: Any) -> None:
        await self._context.write(self._serialized(answer))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _written(stream: Callable[[Any, Any], Any], serialized: Callable[[Any], bytes]) -> Behaviour:
    """`stream` may be a coroutine that writes its answers, or a generator of them."""

    async def behaviour(request: Any, context: Context) -> None:
        writer = _Writer(context, serialized)
        if inspect.iscoroutinefunction(stream):
            await stream(request, writer)
            return
        async for answer in stream(request, writer):
            await writer.write(answer)

    return behaviour


def _gone(context: Context) -> grpc.StatusCode:
    """Why nobody waits any more: to the server both look alike, to whoever watches it a passed deadline is its fault."""
    left = context.time_remaining()
    passed = left is not None and left < DEADLINE_SLACK_SECONDS
    return grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED


def _parsed(method: _Method, sent: Any) -> Any:
    """The request, or an iterator of several. Raises MalformedMessage or MessageTooLarge."""
    if method.kind == "bidi_stream":
        return _each_parsed(method, sent)
    return _message(method, sent)


async def _each_parsed(method: _Method, sent: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for data in sent:
        yield _message(method, data)


def _message(method: _Method, data: bytes) -> Any:
    assert method.parse
    if len(data) > method.most_bytes:
        raise MessageTooLarge(len(data), method.most_bytes)
    try:
        return method.parse(data)
    except DecodeError:
        raise MalformedMessage(method.name) from None


async def _unknown_method(requests: Any, context: Context) -> None:
    raise UnknownMethod


def _new_request_id() -> str:
    return f"{getrandbits(128):032x}"


def _request_id(request: Any, new: str) -> str:
    """The caller's, or `new`, which a request that has a place for it is given."""
    request_id: str = getattr(request, "request_id", "") or new
    if hasattr(request, "request_id"):
        request.request_id = request_id
    return request_id[:128]


def _printable(request_id: str) -> str:
    """A caller chose it: escaped, it can neither pass for another line of the log nor steer a terminal."""
    return ascii(request_id)[1:-1]
