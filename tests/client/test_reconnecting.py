"""A connection that is reset while it opens, as by a server that begins to drain."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from steersman_client import Client

RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)


@contextmanager
def resetting(address: str) -> Iterator[str]:
    """The address of a door to the server at `address`, which resets the first connection."""
    host, _, port = address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            first, _ = listener.accept()
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_WHEN_CLOSED)
            first.close()
            second, _ = listener.accept()
            with second, socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=_copy, args=(server, second))
                back.start()
                _copy(second, server)
                back.join()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    serving.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def test_it_is_opened_again_before_the_attempts_are_used_up(address: str) -> None:
    with resetting(address) as door, Client(door, timeout=60) as client:
        assert client.model_info().bundle_version
