"""Assembles the gateway: HTTP in, a server's gRPC behind."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from steersman_service.http.app import gateway_app
from steersman_service.http.options import GatewayOptions
from steersman_service.http.server import served
from steersman_service.rpc.upstream import Upstream


@asynccontextmanager
async def gateway(
    on: socket.socket,
    target: str,
    options: GatewayOptions,
    *,
    channel_options: Sequence[tuple[str, Any]] = (),
    credentials: Any = None,
    context: ssl.SSLContext | None = None,
    count: Callable[[str, int], None] = lambda kind, status: None,
) -> AsyncIterator[None]:
    """Answers HTTP on the socket `on` while inside, by calls of the gRPC server at `target`. The server need not be up.

    `credentials` are gRPC's, for TLS on the way there; with a `context` HTTP itself goes by TLS.
    `count` is told of every request: its kind, as metrics call it, and its status.
    """
    upstream = Upstream(target, channel_options, credentials)
    try:
        async with served(gateway_app(upstream, options, count), on, options, context):
            yield
    finally:
        await upstream.close()
