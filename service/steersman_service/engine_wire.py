"""What crosses between an engine's process and those it computes for: pickled messages, each behind its length.

Only processes of one server hold ends of these connections: what is pickled here must never be read from anywhere else.
"""

import pickle
import socket
import struct
import time
from collections.abc import Generator
from typing import Any, NamedTuple

from steersman_service.engine import Answer

LENGTH = struct.Struct("!I")


class Loaded(NamedTuple):
    """The engine is ready."""

    name: str
    """Of its backend: "onnx" or "torch"."""
    device: str
    """ "cpu" or "cuda"."""
    version: str
    """Of its bundle."""


class Refused(NamedTuple):
    """The engine cannot be loaded."""

    why: str


class Cache(NamedTuple):
    """What a cache of the engine holds."""

    held_bytes: int
    entries: int


class Outcome(NamedTuple):
    """Of a batch."""

    answers: list[Answer] | str
    """Or the traceback of what went wrong."""
    observed: list[tuple[str, tuple[Any, ...]]]
    """Calls of `Observer`: name and arguments. None where the engine counts by itself."""
    states: Cache
    key_values: Cache


def packed(message: Any) -> bytes:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def receive(connection: socket.socket) -> Any:
    """Waits for it. Raises OSError or EOFError if the other side is gone."""
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return pickle.loads(_exactly(connection, length))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = connection.recv(count, socket.MSG_WAITALL)
    while len(data) < count:  # a signal came between, or the end
        more = connection.recv(count - len(data), socket.MSG_WAITALL)
        if not more:
            raise EOFError
        data += more
    return data


class Peer:
    """A connection that is never waited for: messages are read and written as far as they go."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.moved = 0.0
        """When it last gave or took something."""
        self.reading = False
        """A message has begun, and is not all there."""
        self.unsent = bytearray()
        """It did not take this yet."""
        self._messages = self._read()

    @property
    def halfway(self) -> bool:
        return self.reading or bool(self.unsent)

    def read(self) -> Any:
        """The next message, or None if it is not all there. Raises OSError or EOFError if the other side is gone."""
        return next(self._messages)

    def write(self, message: Any) -> None:
        """Raises OSError if the other side is gone."""
        self.unsent += packed(message)
        self.flush()

    def flush(self) -> None:
        """Raises OSError if the other side is gone."""
        while self.unsent:
            try:
                sent = self.connection.send(self.unsent)
            except BlockingIOError:
                return
            del self.unsent[:sent]
            self.moved = time.monotonic()

    def _read(self) -> Generator[Any, None, None]:
        while True:
            (length,) = LENGTH.unpack((yield from self._bytes(LENGTH.size)))
            message = pickle.loads((yield from self._bytes(length)))
            self.reading = False
            yield message

    def _bytes(self, count: int) -> Generator[None, None, bytearray]:
        data = bytearray(count)
        rest = memoryview(data)
        while rest:
            try:
                got = self.connection.recv_into(rest)
            except BlockingIOError:
                yield None
                continue
            if not got:
                raise EOFError
            rest = rest[got:]
            self.reading, self.moved = True, time.monotonic()
        return data
