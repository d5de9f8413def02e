"""The HTTP server under the gateway."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from steersman_service.errors import StartupError
from steersman_service.http.connections import MOST_HEAD_BYTES, bounded
from steersman_service.http.options import GatewayOptions

# Longer than the 60 s after which most proxies and browsers give up a connection that idles.
KEEP_ALIVE_SECONDS = 75
BACKLOG = 1024


def listening(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket to serve on; `shared` with the one by which a supervisor reserves the port. Raises StartupError if it cannot be had."""
    where = f"{host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family)
    except OSError as error:
        raise StartupError(f"HTTP cannot listen on {where}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise StartupError(f"HTTP cannot listen on {where}: {error.strerror}") from error
    bound.setblocking(False)
    return bound


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Whoever runs it decides what signals do."""
        yield


@asynccontextmanager
async def served(
    app: ASGIApp, on: socket.socket, options: GatewayOptions, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Takes requests while inside, by TLS with a `context`; at the end lets those in flight finish, for `drain_seconds` at most."""
    config = uvicorn.Config(
        app,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(options.drain_seconds)),
        backlog=BACKLOG,
        lifespan="off",
        http=bounded(options.max_connections),
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nobody is believed about where a call comes from.
        proxy_headers=False,
        ssl_context_factory=None if context is None else lambda config, default: context,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[on]))
    try:
        await server.listens.wait()
        yield
    finally:
        server.should_exit = True
        with suppress(SystemExit):
            await serving
