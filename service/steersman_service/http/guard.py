"""What a request has to pass before it is a call: the name of the host, the kind of its body, and bounds of size, time and number."""

import asyncio
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steersman_service.errors import (
    ContentTypeRefused,
    HostRefused,
    MessageTooLarge,
    OnlyPost,
    RequestError,
    SlowRequest,
    TooManyCalls,
)
from steersman_service.http.refusal import refused

# Without any of these a browser asks before it sends to another site: a page of another site can send none of them by itself.
CONTENT_TYPES = (
    "application/json",
    "application/proto",
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web+json",
)
# Of the request: no other goes further.
HEADERS = frozenset(
    (
        *("host", "content-type", "content-encoding", "accept-encoding"),
        *("connect-protocol-version", "connect-timeout-ms"),
        *("grpc-timeout", "grpc-encoding", "grpc-accept-encoding"),
        "steersman-tenant",
    )
)
BODY_SECONDS = 10.0
MOST_CALLS = 256
# What was not read of a body is not the beginning of the next request.
CLOSE = {"connection": "close"}
# Probes ask by address, and learn one word.
OPEN_PATH = "/healthz"


class HostGuard:
    """Refuses names that the server does not go by, so that no page of another site reaches it under that site's name."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        """`allowed`: see GatewayOptions."""
        self._app = app
        self._names = {name.lower() for name in allowed if not name.startswith("*")}
        self._ends = tuple(name[1:].lower() for name in allowed if name.startswith("*."))
        self._any = "*" in allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != OPEN_PATH and not self._allows(Headers(scope=scope)):
            await refused(HostRefused())(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _allows(self, headers: Headers) -> bool:
        named = headers.getlist("host")
        if self._any:
            return True
        if len(named) != 1:
            return False
        host = without_port(named[0].strip().lower()).rstrip(".")
        return host in self._names or bool(self._ends and host.endswith(self._ends))


def without_port(host: str) -> str:
    """`name:port` or `[::1]:port` without the port."""
    before, colon, port = host.rpartition(":")
    return before if colon and port.isdigit() and (before.endswith("]") or ":" not in before) else host


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
            body = await self._body(headers, receive)
        except RequestError as error:
            more = {"allow": "POST"} if isinstance(error, OnlyPost) else {}
            await refused(error, {**CLOSE, **more})(scope, receive, send)
            return
        if body is None:
            return
        kept = [(name, value) for name, value in scope["headers"] if name.decode("latin-1") in HEADERS]
        plain = [(name, content_type.encode() if name == b"content-type" else value) for name, value in kept]
        await self._app({**scope, "headers": plain}, _read_already(body, receive), send)

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """None if the caller has gone. Raises MessageTooLarge or SlowRequest."""
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            raise MessageTooLarge(int(declared), self._max_body_bytes)
        chunks, size = list[bytes](), 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > self._max_body_bytes:
                        raise MessageTooLarge(size, self._max_body_bytes)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise SlowRequest(BODY_SECONDS) from None


def _content_type(headers: Headers) -> str:
    """Without parameters. Raises ContentTypeRefused."""
    sent = headers.getlist("content-type")
    media = sent[0].partition(";")[0].strip().lower() if len(sent) == 1 else ""
    if media not in CONTENT_TYPES:
        raise ContentTypeRefused(f"the header content-type has to be one of {', '.join(CONTENT_TYPES)}")
    return media


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
