"""The HTTP port that Prometheus scrapes. A client that is slow, silent or wrong costs the server little."""

import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest
from http.server import HTTPServer
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from steersman_service.errors import StartupError

# At a time, each with a thread. One more replaces the oldest that has not sent its request, or else the oldest.
MAX_CONNECTIONS = 32
# From the connection to the end of its answer.
MAX_SECONDS = 10.0
# Between checks for connections that took longer.
CHECK_SECONDS = 0.5

log = structlog.get_logger()


@contextmanager
def exposed(
    registry: CollectorRegistry, host: str, port: int, token: str = "", context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Serves what `registry` collects over HTTP, by TLS with a `context`, to those that bring the `token`; gives the port.

    Raises StartupError if it is taken."""
    try:
        server = _Server(registry, host, port, token, context)
    except OSError as error:
        raise StartupError(f"metrics cannot listen on {host}:{port}: {error.strerror}") from error
    with _serving(server):
        yield server.server_port


@contextmanager
def exposed_inside(registry: CollectorRegistry, path: Path) -> Iterator[None]:
    """The same on a Unix socket, for a process of this server."""
    with _serving(_UnixServer(registry, path)):
        yield


@contextmanager
def _serving(server: "_Server") -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(CHECK_SECONDS,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(MetricsHandler):
    server: "_Server"

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed:
            self.server.asked(self.connection)
        return parsed

    def do_GET(self) -> None:
        if not self._admitted():
            self.send_response(401)
            self.send_header("www-authenticate", 'Bearer realm="steersman metrics"')
            self.send_header("content-length", "0")
            self.end_headers()
            return
        try:
            super().do_GET()
        except OSError:
            raise
        except Exception as error:  # a header that says nonsense, mostly
            log.warning("metrics not served", error=type(error).__name__)
            self.send_error(500)

    def _admitted(self) -> bool:
        sent = self.headers.get("authorization", "").encode(errors="replace")
        return not self.server.token or compare_digest(sent, f"Bearer {self.server.token}".encode())


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, registry: CollectorRegistry, host: str, port: int, token: str = "", context: ssl.SSLContext | None = None
    ) -> None:
        """Raises OSError."""
        self.token = token
        self.address_family = self._family(host, port)
        self._context = context
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        # Whether each connection has sent the head of its request, and when it was made.
        self._open: dict[socket.socket, tuple[bool, float]] = {}
        super().__init__((host, port), type("Handler", (_Handler,), {"registry": registry}))

    @staticmethod
    def _family(host: str, port: int) -> socket.AddressFamily:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]

    def get_request(self) -> tuple[socket.socket, Any]:
        """The handshake is left to the connection's thread, where it is part of the first read."""
        connection, address = super().get_request()
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def asked(self, connection: socket.socket) -> None:
        """The whole head of its request has come."""
        with self._lock:
            if connection in self._open:
                self._open[connection] = (True, self._open[connection][1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            with self._lock:
                if self._open:
                    self._end(min(self._open, key=self._open.__getitem__))
            self._slots.acquire()
        with self._lock:
            self._open[request] = (False, time.monotonic())
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Runs between connections, and every CHECK_SECONDS."""
        late = time.monotonic() - MAX_SECONDS
        with self._lock:
            for connection in [each for each, (_, since) in self._open.items() if since < late]:
                self._end(connection)

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            request.close()
        self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Not on standard error as it is: that is the log's. A client that is gone is no error."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("metrics not served", error=type(error).__name__)

    def _end(self, connection: socket.socket) -> None:
        """Its thread finds that it cannot read or write any more, and closes it."""
        del self._open[connection]
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class _UnixServer(_Server):
    def __init__(self, registry: CollectorRegistry, path: Path) -> None:
        super().__init__(registry, str(path), 0)

    @staticmethod
    def _family(host: str, port: int) -> socket.AddressFamily:
        return socket.AF_UNIX

    def server_bind(self) -> None:
        """Of HTTPServer, what it knows of names and numbers is left out."""
        address: Any = self.server_address
        self.server_address = address[0]
        TCPServer.server_bind(self)
