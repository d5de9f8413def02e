"""What happens around every call: admission, a request id, a deadline, metrics, the log, and errors turned into statuses."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from random import getrandbits
from typing import Any, NamedTuple

import grpc
import structlog
from google.protobuf.message import DecodeError

from steersman_service.api.caller import Caller
from steersman_service.errors import (
    AnswerTooLarge,
    DeadlinePassed,
    InternalError,
    MalformedMessage,
    MessageTooLarge,
    RequestError,
    UnknownMethod,
)
from steersman_service.rpc.admission import Admission, Entrance
from steersman_service.rpc.doors import Doors
from steersman_service.rpc.refusals import QUICK, TOO_MANY_CALLS, QuickRefusal, RefusalLog
from steersman_service.rpc.services import PACKAGE
from steersman_service.rpc.status import grpc_status
from steersman_service.rpc.streams import awaited
from steersman_service.rpc.unread import Unread
from steersman_service.sessions.patience import be_patient
from steersman_service.telemetry.metrics import CallMetrics, CallType, MethodMetrics
from steersman_service.telemetry.traces import HEADER, traces

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Any], Awaitable[Any]]
"""Takes the request, or an iterator of requests, and gRPC's context or a Caller."""

BUNDLE_VERSION = "steersman-bundle-version"
# gRPC may report a passed deadline this much before the server's clock reaches it.
DEADLINE_SLACK_SECONDS = 0.01
# Fields of requests that bound the size of the answer.
SIZES = ("page_size", "k", "max_item_ids", "top_features", "requests")
# One name in log and metrics for all methods that do not exist: callers make up theirs.
UNKNOWN = "/unknown/unknown"
# Of requests that are not of this contract: the names of services that health checks and reflection are asked for.
MOST_OTHER_BYTES = 4096


class _Method(NamedTuple):
    name: str
    """ "/package.Service/Method" """
    kind: CallType
    takes_caller: bool
    parse: Callable[[bytes], Any]
    behaviour: Behaviour
    serialize: Callable[[Any], bytes]
    metrics: MethodMetrics
    entrance: Entrance


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Answers every error with details, unknown methods and bytes that do not parse included, and never with an exception's text.

    Methods of `steersman.v1` are called with a Caller, others (health, reflection) with gRPC's context.

    Logs one line a call: at level debug if it succeeded, info if it failed, warning if it took `slow_seconds` or longer. Of what the
    caller sent, it has the request id alone. Calls that are refused before they are parsed are counted, and logged by the second.
    """

    def __init__(
        self,
        metrics: CallMetrics,
        *,
        slow_seconds: float,
        admission: Admission,
        max_message_bytes: int,
        deadline_seconds: float = float("inf"),
        doors: Doors | None = None,
    ) -> None:
        """Refuses calls that `admission` does not take, and messages of more than `max_message_bytes`, either way.

        `deadline_seconds` is for calls that bring no deadline. Streams have none.
        """
        self._metrics = metrics
        self._admission = admission
        self._refusals = RefusalLog()
        self._unread = Unread()
        self._slow_seconds = slow_seconds
        self._deadline_seconds = deadline_seconds
        self._max_message_bytes = max_message_bytes
        self._traces = traces()
        self._doors = doors or Doors()
        self._handlers: dict[str, Any] = {}
        # Bound once, so that a line below the level costs next to nothing.
        self._log = structlog.get_logger().bind()
        self.seen = 0
        """Calls of any kind, those that were refused included."""
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # They read no message, so the most general kind of call fits all.
        self._unknown = self._wrapped(UNKNOWN, grpc.stream_stream_rpc_method_handler(_unknown_method))
        self._crowded: Any = grpc.stream_stream_rpc_method_handler(self._refuse_unread)

    @property
    def running(self) -> int:
        """Calls in flight, without streams."""
        return self._running

    async def idle(self) -> None:
        """Waits until no call is in flight. Streams do not count: those of health checks never end by themselves."""
        await self._idle.wait()

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        self.seen += 1
        name: str = handler_call_details.method
        if name not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None:
                return self._unknown
            self._handlers[name] = self._wrapped(name, handler)
        return self._handlers[name] if self._unread.add() else self._crowded

    def _wrapped(self, name: str, handler: Any) -> Any:
        service, _, short_name = name.removeprefix("/").partition("/")
        kind, make, behaviour = self._shape(handler)
        method = _Method(
            name,
            kind,
            service.startswith(f"{PACKAGE}."),
            handler.request_deserializer,
            behaviour,
            handler.response_serializer,
            self._metrics.calls(kind, service, short_name),
            self._admission.of(kind, name),
        )

        async def call(sent: Any, context: Context) -> Any:
            return await self._admitted(method, sent, context)

        async def traced(sent: Any, context: Context) -> Any:
            with self._traces.serving("grpc", name.removeprefix("/"), _metadata(context, HEADER)):
                return await self._admitted(method, sent, context)

        # Of health checks and the like there would be many, and streams that watch health do not end.
        recorded = self._traces.on and method.takes_caller
        return make(traced if recorded else call, None, None)  # gRPC passes bytes both ways

    def _shape(self, handler: Any) -> tuple[CallType, Callable[..., Any], Behaviour]:
        """The kind of call, what makes a handler of it, and its behaviour as one coroutine."""
        if handler.unary_unary is not None:
            return "unary", grpc.unary_unary_rpc_method_handler, handler.unary_unary
        stream = handler.unary_stream or handler.stream_stream

        async def behaviour(request: Any, context: Context) -> None:
            writer = _Writer(context, lambda answer: self._checked(handler.response_serializer(answer), None))
            if inspect.iscoroutinefunction(stream):
                await stream(request, writer)
                return
            async for answer in stream(request, writer):
                await writer.write(answer)

        if handler.unary_stream is not None:
            return "server_stream", grpc.unary_stream_rpc_method_handler, behaviour
        return "bidi_stream", grpc.stream_stream_rpc_method_handler, behaviour

    async def _admitted(self, method: _Method, sent: Any, context: Context) -> Any:
        """`sent` are the bytes of the request, or an iterator of those of several."""
        self._unread.read()
        given = context.time_remaining()
        refusal = method.entrance.too_late(self._deadline_seconds if given is None else given)
        if refusal is None:
            return await self._call(method, sent, context)
        method.metrics.started()
        method.metrics.handled(refusal.error.code, 0.0)
        return await self._refuse(refusal, context)

    async def _refuse_unread(self, sent: Any, context: Context) -> None:
        await self._refuse(TOO_MANY_CALLS, context)

    async def _refuse(self, refusal: QuickRefusal, context: Context) -> None:
        self._metrics.refused(refusal.error)
        self._refusals.add(refusal.error)
        await refusal.answer(context)

    async def _call(self, method: _Method, sent: Any, context: Context) -> Any:
        request_id = f"{getrandbits(128):032x}"
        start, code = time.perf_counter(), grpc.StatusCode.OK
        refusal: RequestError | None = None
        request = entered = None
        self._begin(method)
        try:
            identity, tenant = await self._doors.admit(method.name, context)
            whose = tenant if method.kind == "unary" else context.peer()
            method.entrance.enter(whose)
            entered = whose
            if method.kind == "bidi_stream":
                return await method.behaviour(self._each_parsed(method, sent), context)
            request = self._parsed(method, sent)
            request_id = (getattr(request, "request_id", "") or request_id)[:128]
            if method.kind == "server_stream":
                return await method.behaviour(request, context)
            version = _metadata(context, BUNDLE_VERSION)
            caller = Caller(tenant=tenant, request_id=request_id, identity=identity, bundle_version=version)
            answer = await self._in_time(method, request, context, caller)
            return self._checked(method.serialize(answer), request)
        except asyncio.CancelledError:
            code = _cancellation(context)
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
            code = self._end(method, code, refusal, request_id, time.perf_counter() - start)
            if entered is not None:
                method.entrance.leave(entered)
        # Frees a large request before the error is sent.
        del request, sent
        if quick := QUICK.get(type(refusal)):
            return await quick.answer(context)
        return await context.abort_with_status(grpc_status(refusal, request_id))

    async def _in_time(self, method: _Method, request: Any, context: Context, caller: Caller) -> Any:
        """The answer; `caller` has no deadline yet. Raises DeadlinePassed at the server's own deadline; at the caller's, gRPC cancels."""
        given = context.time_remaining()
        seconds = self._deadline_seconds if given is None else given
        argument: Any = context
        if method.takes_caller:
            self._doors.permit(method.name, request, caller.identity)
            argument = caller._replace(deadline=time.monotonic() + seconds)
            be_patient(seconds)
        limit = asyncio.timeout(seconds if given is None and seconds < float("inf") else None)
        try:
            async with limit:
                return await method.behaviour(request, argument)
        except TimeoutError:
            if not limit.expired():
                raise
            why = f"it took longer than {seconds:g} s, the server's limit for calls without a deadline"
            raise DeadlinePassed(why) from None

    def _parsed(self, method: _Method, data: bytes) -> Any:
        """A request. Raises MalformedMessage or MessageTooLarge."""
        most = self._max_message_bytes if method.takes_caller else MOST_OTHER_BYTES
        if len(data) > most:
            raise MessageTooLarge(len(data), most)
        try:
            return method.parse(data)
        except DecodeError:
            raise MalformedMessage(method.name) from None

    async def _each_parsed(self, method: _Method, sent: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in awaited(sent):
            yield self._parsed(method, data)

    def _checked(self, answer: bytes, request: Any) -> bytes:
        """Raises AnswerTooLarge: gRPC would refuse to send it, uncounted and unlogged."""
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
    ) -> grpc.StatusCode:
        """Counts and logs the call before its answer is sent, so that a caller that has the answer finds it counted. Gives its code."""
        if refusal is not None:
            code = grpc.StatusCode[refusal.code]
            self._metrics.refused(refusal)
        method.metrics.handled(code.name, seconds)
        if method.takes_caller:
            error = "" if code is grpc.StatusCode.OK else code.name
            self._traces.served(code.name, refusal.reason if refusal else error)
        log = self._log.info if refusal else self._log.debug
        if method.kind == "unary":
            self._running -= 1
            if not self._running:
                self._idle.set()
            if seconds >= self._slow_seconds:
                log = self._log.warning
            elif code is not grpc.StatusCode.OK:
                log = self._log.info
        if refusal and type(refusal) in QUICK:
            self._refusals.add(refusal)
            return code
        log(
            "call",
            method=method.name,
            code=code.name,
            reason=refusal.reason if refusal else "",
            ms=round(1e3 * seconds, 3),
            request_id=_printable(request_id),
        )
        return code


class _Writer:
    """The context of a stream, which serializes the answers written to it."""

    def __init__(self, context: Context, serialize: Callable[[Any], bytes]) -> None:
        self._context = context
        self._serialize = serialize

    async def write(self, answer: Any) -> None:
        await self._context.write(self._serialize(answer))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _unknown_method(requests: Any, context: Context) -> None:
    raise UnknownMethod


def _metadata(context: Context, key: str) -> str:
    """The first value; empty if there is none."""
    return next((str(value) for name, value in context.invocation_metadata() or () if name == key), "")


def _cancellation(context: Context) -> grpc.StatusCode:
    """Why gRPC cancelled the call: to the server a passed deadline and a caller that gave up look alike."""
    left = context.time_remaining()
    passed = left is not None and left < DEADLINE_SLACK_SECONDS
    return grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED


def _printable(request_id: str) -> str:
    """Escaped: a caller's text must not forge a line of the log or steer a terminal."""
    return ascii(request_id)[1:-1]
