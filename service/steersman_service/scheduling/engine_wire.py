"""What crosses between an engine's process and those it computes for: pickled messages, each behind its length.

Only processes of one server hold ends of these connections: what is pickled here must never be read from anywhere else.
"""

import asyncio
import pickle
import socket
import struct
import time
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.engine import Answer, Edits, Work

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


Flat = tuple[str, bytes]
"""The type and the bytes of an array of one dimension. As numpy pickles it, it takes ten times as long."""
FlatEdits = tuple[Flat, Flat, Flat]


class Request(NamedTuple):
    """Work."""

    ids_T: Flat
    edits: FlatEdits
    concepts_C: Flat
    concept_strengths_C: Flat
    eligible_N: Flat | None
    k: int
    tilts_N: Flat | None
    excluded_X: Flat
    grows: bool
    state: bytes

    @classmethod
    def of(cls, work: Work) -> "Request":
        return cls(
            _flat(work.ids_T),
            _flat_edits(work.edits),
            _flat(work.concepts_C),
            _flat(work.concept_strengths_C),
            None if work.eligible_N is None else _flat(work.eligible_N),
            work.k,
            None if work.tilts_N is None else _flat(work.tilts_N),
            _flat(work.excluded_X),
            work.grows,
            work.state,
        )

    def work(self) -> Work:
        return Work(
            _array(self.ids_T),
            _edits(self.edits),
            _array(self.concepts_C),
            _array(self.concept_strengths_C),
            None if self.eligible_N is None else _array(self.eligible_N),
            self.k,
            None if self.tilts_N is None else _array(self.tilts_N),
            _array(self.excluded_X),
            self.grows,
            self.state,
        )


class Reply(NamedTuple):
    """An answer."""

    rows_K: Flat
    scores_K: Flat
    concept_edits: list[FlatEdits]
    state: bytes

    @classmethod
    def of(cls, answer: Answer) -> "Reply":
        edits = [_flat_edits(edits) for edits in answer.concept_edits]
        return cls(_flat(answer.rows_K), _flat(answer.scores_K), edits, answer.state)

    def answer(self) -> Answer:
        edits = [_edits(edits) for edits in self.concept_edits]
        return Answer(_array(self.rows_K), _array(self.scores_K), edits, self.state)


class Outcome(NamedTuple):
    """Of a batch."""

    replies: list[Reply] | str
    """Or the traceback of what went wrong."""
    observed: list[tuple[str, tuple[Any, ...]]]
    """Calls of `Observer`: name and arguments. None where the engine counts by itself."""
    states: Cache
    key_values: Cache


def _flat(array: Array) -> Flat:
    return array.dtype.char, array.tobytes()


def _array(flat: Flat) -> Array:
    return np.frombuffer(flat[1], flat[0])


def _flat_edits(edits: Edits) -> FlatEdits:
    return _flat(edits.features_E), _flat(edits.gains_E), _flat(edits.strengths_E)


def _edits(flat: FlatEdits) -> Edits:
    return Edits(_array(flat[0]), _array(flat[1]), _array(flat[2]))


def packed(message: Any) -> bytes:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def unpacked(unread: bytearray) -> Iterator[Any]:
    """The messages that are all there, which are taken from `unread`."""
    while len(unread) >= LENGTH.size:
        end = LENGTH.size + LENGTH.unpack_from(unread)[0]
        if len(unread) < end:
            return
        data = unread[LENGTH.size : end]
        del unread[:end]
        yield pickle.loads(data)


def receive(connection: socket.socket) -> Any:
    """Waits for it. Raises OSError or EOFError if the other side is gone."""
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return pickle.loads(_exactly(connection, length))


async def received(connection: socket.socket) -> Any:
    """The same of a connection that does not block."""
    loop = asyncio.get_running_loop()

    async def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await loop.sock_recv(connection, count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    (length,) = LENGTH.unpack(await exactly(LENGTH.size))
    return pickle.loads(await exactly(length))


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
