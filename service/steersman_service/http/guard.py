"""What a request has to pass before it is a call: the name of the host, the kind of its body, and bounds of size, time and number."""

import asyncio
import re
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steersman_service.checks import MAX_AUTHORIZATION_BYTES
from steersman_service.errors import (
    ContentTypeRefused,
    FieldViolation,
    HostRefused,
    MessageTooLarge,
    OnlyPost,
    RequestError,
    SlowRequest,
    TokenRefused,
    TooManyCalls,
    raise_if_any,
)
from steersman_service.http.options import HostNames
from steersman_service.http.refusal import refused, refused_in_grpc_web
from steersman_service.telemetry.traces import HEADER as TRACE
from steersman_service.telemetry.traces import Traces

# Without any of these a browser asks before it sends to another site: a page of another site can send none of them by itself.
CONTENT_TYPES = {
    "application/json": "connect_json",
    "application/proto": "connect_proto",
    "application/grpc-web": "grpc_web",
    "application/grpc-web+proto": "grpc_web",
    "application/grpc-web+json": "grpc_web",
}
"""With what metrics call them."""
PRINTABLE, CODING = (r"[ -~]*", "printable ASCII"), ("identity|gzip|", "identity or gzip")
# Of the request: no other goes further. What each has to be, as a pattern and in words.
HEADERS = {
    **dict.fromkeys(("host", "content-type", "accept-encoding", "grpc-accept-encoding"), PRINTABLE),
    **dict.fromkeys(("steersman-tenant", "steersman-bundle-version"), PRINTABLE),
    TRACE: PRINTABLE,
    "authorization": (
        rf"[!-~ ]{{0,{MAX_AUTHORIZATION_BYTES}}}",
        f"at most {MAX_AUTHORIZATION_BYTES} bytes of printable ASCII",
    ),
    **dict.fromkeys(("content-encoding", "grpc-encoding"), CODING),
    "connect-protocol-version": ("1", "1"),
    "connect-timeout-ms": (r"[0-9]{1,10}", "milliseconds, of ten digits at most"),
    "grpc-timeout": (r"[0-9]{1,8}[HMSmun]", "eight digits at most and a unit, one of H, M, S, m, u, n"),
}
BODY_SECONDS = 10.0
# Beyond the largest body. Many callers send all before they read: they would find the connection reset, not the answer.
MOST_DISCARDED = 16 << 20
MOST_CALLS = 256
# What was not read of a body is not the beginning of the next request.
CLOSE = {"connection": "close"}
# Probes ask by address, and learn one word.
READY_PATH, LIVE_PATH = "/healthz", "/livez"
OPEN_PATHS = (READY_PATH, LIVE_PATH)


class Counted:
    """Tells `count` of every request: what it was, and the status of its answer."""

    def __init__(self, app: ASGIApp, count: Callable[[str, int], None]) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                kind = CONTENT_TYPES.get(media_type(Headers(scope=scope))) if scope["method"] == "POST" else None
                self._count(kind or "other", message["status"])
            await send(message)

        await self._app(scope, receive, counted if scope["type"] == "http" else send)


class HostGuard:
    """Refuses names that the server does not go by, so that no page of another site reaches it under that site's name."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        """`allowed`: see GatewayOptions."""
        self._app = app
        self._names = HostNames(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not self._allows(Headers(scope=scope)):
            await refused(HostRefused())(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _allows(self, headers: Headers) -> bool:
        named = headers.getlist("host")
        if self._names.any:
            return True
        if len(named) != 1:
            return False
        return without_port(named[0].strip().lower()).rstrip(".") in self._names


def without_port(host: str) -> str:
    """`name:port` or `[::1]:port` without the port."""
    before, colon, port = host.rpartition(":")
    return before if colon and port.isdigit() and (before.endswith("]") or ":" not in before) else host


class Traced:
    """Makes a span of every call, which begins when its headers are there."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                self._traces.served(status, str(status) if status >= 400 else "")
            await send(message)

        # The path is that of a method: others do not get here.
        with self._traces.serving("http", scope["path"].removeprefix("/"), Headers(scope=scope).get(TRACE, "")):
            await self._app(scope, receive, told)


class CallGuard:
    """Hands on whole calls: a POST of a known content type, read within bounds, with no header that is not listed."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._running >= MOST_CALLS:
            await refused(TooManyCalls(), CLOSE)(scope, receive, send)
            return
        self._running += 1
        try:
            await self._call(scope, receive, send)
        finally:
            self._running -= 1

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            if scope["method"] != "POST":
                raise OnlyPost()
            content_type = _content_type(headers)
        except RequestError as error:
            allow = {"allow": "POST"} if isinstance(error, OnlyPost) else {}
            await refused(error, {**CLOSE, **allow})(scope, receive, send)
            return
        try:
            kept = _kept(headers, content_type)
            body = await self._body(headers, receive)
        except RequestError as error:
            told = refused_in_grpc_web if CONTENT_TYPES[content_type] == "grpc_web" else refused
            await told(error, CLOSE)(scope, receive, send)
            return
        if body is not None:
            await self._app({**scope, "headers": kept}, _read_already(body, receive), send)

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """None if the caller has gone. Raises MessageTooLarge or SlowRequest."""
        most, declared = self._max_body_bytes, headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() else 0
        # A caller that expects to be told waits for the answer; any other one sends first.
        if size > most and ("expect" in headers or size > most + MOST_DISCARDED):
            raise MessageTooLarge(size, most)
        chunks, size, more = list[bytes](), 0, True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more and size <= most + MOST_DISCARDED:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunks.append(message.get("body", b""))
                    size, more = size + len(chunks[-1]), message.get("more_body", False)
                    if size > most:
                        chunks.clear()
        except TimeoutError:
            raise SlowRequest(BODY_SECONDS) from None
        if size > most:
            raise MessageTooLarge(size, most)
        return b"".join(chunks)


def media_type(headers: Headers) -> str:
    """The content type without parameters; empty if there is none, or more than one."""
    sent = headers.getlist("content-type")
    return sent[0].partition(";")[0].strip().lower() if len(sent) == 1 else ""


def _content_type(headers: Headers) -> str:
    """Raises ContentTypeRefused."""
    media = media_type(headers)
    if media not in CONTENT_TYPES:
        raise ContentTypeRefused(f"the header content-type has to be one of {', '.join(CONTENT_TYPES)}")
    return media


def _kept(headers: Headers, content_type: str) -> list[tuple[bytes, bytes]]:
    """Those that go further. Raises InvalidRequest or TokenRefused for what HTTP allows and the call does not."""
    if len(headers.getlist("authorization")) > 1:
        raise TokenRefused("the header authorization is given more than once")
    kept = [(name, value) for name, value in headers.items() if name in HEADERS]
    raise_if_any(
        [
            FieldViolation(f"header {name}", f"has to be {HEADERS[name][1]}")
            for name, value in kept
            if not re.fullmatch(HEADERS[name][0], value)
        ]
    )
    others = [(name.encode(), value.encode()) for name, value in kept if name != "content-type"]
    return [(b"content-type", content_type.encode()), *others]


def _read_already(body: bytes, receive: Receive) -> Receive:
    """Gives `body`, then what comes after it: that the caller has gone."""
    given = False

    async def read() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return read
