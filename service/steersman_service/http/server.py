"""The HTTP server under the gateway."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from steersman_service.errors import StartupError
from steersman_service.http.connections import HEAD_SECONDS, MOST_HEAD_BYTES, BoundedProtocol
from steersman_service.http.options import GatewayOptions

# Longer than the 60 s after which most proxies and browsers give up a connection that idles.
KEEP_ALIVE_SECONDS = 75
BACKLOG = 1024
# Until connections are taken again, where there are no descriptors left.
AGAIN_SECONDS = 0.1


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
    """Takes connections itself: uvicorn does not know of one before its TLS handshake, which may take for ever."""

    def __init__(self, config: uvicorn.Config, most: int, context: ssl.SSLContext | None) -> None:
        """`most` connections at a time, handshakes among them; more are closed without a word."""
        super().__init__(config)
        self.listens = asyncio.Event()
        self._most, self._context = most, context
        self._on: list[socket.socket] = []
        self._entering = set[asyncio.Task[None]]()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        for on in sockets or ():
            on.listen(BACKLOG)
            self._on.append(on)
            self._watch(on)
        self.listens.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        on, self._on = self._on, []
        for each in on:
            asyncio.get_running_loop().remove_reader(each)
        await self._turn_away()
        await super().shutdown(sockets)

    async def _turn_away(self) -> None:
        """Ends the connections that are no protocol's yet, and keeps none of their tasks: a task that is kept keeps its socket open."""
        entering = list(self._entering)
        for task in entering:
            task.cancel()
        await asyncio.gather(*entering, return_exceptions=True)

    def _watch(self, on: socket.socket) -> None:
        if on in self._on:
            asyncio.get_running_loop().add_reader(on, self._take, on)

    def _take(self, on: socket.socket) -> None:
        """At once: of a connection that is accepted by an await, and cancelled, nothing would be known until the server ends."""
        loop = asyncio.get_running_loop()
        try:
            connection, _ = on.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            loop.remove_reader(on)
            loop.call_later(AGAIN_SECONDS, self._watch, on)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.server_state.connections) + len(self._entering) >= self._most:
            connection.close()
            return
        task = asyncio.create_task(self._enter(connection))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _enter(self, connection: socket.socket) -> None:
        patience = HEAD_SECONDS if self._context else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, connection, ssl=self._context, ssl_handshake_timeout=patience
            )
        except OSError:  # ssl.SSLError is one
            connection.close()

    def _protocol(self) -> BoundedProtocol:
        return BoundedProtocol(self.config, self.server_state, self.lifespan.state)

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
        lifespan="off",
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nobody is believed about where a call comes from.
        proxy_headers=False,
    )
    server = _Server(config, options.max_connections, context)
    serving = asyncio.create_task(server.serve(sockets=[on]))
    try:
        await server.listens.wait()
        yield
    finally:
        server.should_exit = True
        with suppress(SystemExit):
            await serving
