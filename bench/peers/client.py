"""The load generator: raw sockets, bodies encoded beforehand, answers counted and not parsed. The same for every server.

gRPC is spoken as bare HTTP/2: of what a server sends, frames are told apart, and an answer with a message is a good one, since a gRPC error
has none. Its processor time is reported beside every figure. LitServe is called by HTTP/1.1, as it speaks nothing else.
"""

import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
WINDOW = 65_535
MOST = 2**31 - 1
FRAME_HEADER = 9
MAX_FRAME = 16_384
CLOSED_SECONDS = 5.0
"""How long answers are waited for when a run is over."""


class Message(NamedTuple):
    """What one call sends."""

    path: str
    """ "/package.Service/Method", or a path of HTTP/1.1."""
    body: bytes


Turn = Sequence[Message]
"""Calls made one after the other, which together are one request: for a server with sessions, append and recommend."""
Visit = Sequence[Turn]
"""Turns that have to be made in their order."""


class Measured(NamedTuple):
    """One run."""

    turns: int
    """Answered within the run."""
    seconds: float
    latencies: list[float]
    """Seconds from the beginning of each turn (in an open loop from when it was due) to its last answer."""
    failed: int
    client_seconds: float
    """Processor time that the generator spent."""


class Connection(Protocol):
    """One connection, on which calls are told apart by a number."""

    socket: socket.socket

    def send(self, message: Message) -> int: ...
    def receive(self) -> Iterator[tuple[int, bool]]:
        """Calls that were answered, and whether well."""


class Http2:
    """gRPC without a library."""

    def __init__(self, port: int) -> None:
        self.socket = _connected(port)
        self._authority = f"127.0.0.1:{port}"
        self._heads: dict[str, bytes] = {}
        self._next, self._window, self._blocked = 1, WINDOW, deque[tuple[int, bytes]]()
        self._unread = b""
        # Of the calls in flight, whether a message has come.
        self._answered: dict[int, bool] = {}
        # The server may send without ever waiting for a window.
        settings = struct.pack("!HI", 4, MOST)
        self.socket.sendall(
            PREFACE + _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", MOST - WINDOW))
        )

    def send(self, message: Message) -> int:
        stream, self._next = self._next, self._next + 2
        self._answered[stream] = False
        head = self._heads.get(message.path) or self._head(message.path)
        size = len(message.body) + 5
        assert size <= MAX_FRAME, "a body is larger than a frame of HTTP/2"
        frames = b"".join(
            (
                _header(HEADERS, END_HEADERS, stream, len(head)), head,
                _header(DATA, END_STREAM, stream, size), struct.pack("!BI", 0, size - 5), message.body,
            )
        )  # fmt: skip
        if self._blocked or size > self._window:
            self._blocked.append((size, frames))
        else:
            self._window -= size
            self.socket.sendall(frames)
        return stream

    def receive(self) -> Iterator[tuple[int, bool]]:
        received = self.socket.recv(1 << 18)
        if not received:
            raise ConnectionError("the server has closed the connection")
        data = self._unread + received
        at, end = 0, len(data)
        while at + FRAME_HEADER <= end:
            size = int.from_bytes(data[at : at + 3])
            if at + FRAME_HEADER + size > end:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9])
            payload = at + FRAME_HEADER
            at = payload + size
            if kind == DATA and size > 5:
                self._answered[stream] = True
            if (kind in (DATA, HEADERS) and flags & END_STREAM) or kind == RESET:
                if stream in self._answered:  # a server may reset a stream that it has answered
                    yield stream, self._answered.pop(stream)
            elif kind not in (DATA, HEADERS):
                self._control(kind, flags, stream, data[payload:at])
        self._unread = data[at:]

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload)
            while self._blocked and self._blocked[0][0] <= self._window:
                size, frames = self._blocked.popleft()
                self._window -= size
                self.socket.sendall(frames)
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self.socket.sendall(_frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == GOAWAY:
            raise ConnectionError(f"the server says goodbye: {payload[8:]!r}")

    def _head(self, path: str) -> bytes:
        """Headers as HPACK literals that no table keeps, so that they are the same bytes for every call."""
        literals = (
            (b":path", path.encode()), (b":authority", self._authority.encode()), (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )  # fmt: skip
        coded = (bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in literals)
        self._heads[path] = b"\x83\x86" + b"".join(coded)  # :method POST and :scheme http, of HPACK's static table
        return self._heads[path]


class Http1:
    """HTTP/1.1 that is kept alive: one call at a time on a connection, and further ones wait their turn."""

    def __init__(self, port: int) -> None:
        self.socket = _connected(port)
        self._count, self._unread = 0, b""
        self._calls: deque[tuple[int, bytes]] = deque()

    def send(self, message: Message) -> int:
        head = f"POST {message.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        self._count += 1
        self._calls.append((self._count, f"{head}Content-Length: {len(message.body)}\r\n\r\n".encode() + message.body))
        if len(self._calls) == 1:
            self.socket.sendall(self._calls[0][1])
        return self._count

    def receive(self) -> Iterator[tuple[int, bool]]:
        received = self.socket.recv(1 << 18)
        if not received:
            raise ConnectionError("the server has closed the connection")
        self._unread += received
        head, found, rest = self._unread.partition(b"\r\n\r\n")
        if not found:
            return
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(rest) >= size:
            self._unread = rest[size:]
            call, _ = self._calls.popleft()
            if self._calls:
                self.socket.sendall(self._calls[0][1])
            yield call, head.startswith(b"HTTP/1.1 200")


class _Going(NamedTuple):
    """A turn in flight."""

    began: float
    turn: Turn
    place: int
    """Of its message that waits for an answer."""
    rest: Iterator[Turn]
    """What comes after it, in its visit."""


class Generator:
    """Makes turns on some connections, `streams` at a time on each at most."""

    def __init__(self, connections: Sequence[Connection], streams: int) -> None:
        self._connections, self._streams = connections, streams
        self._selector = selectors.DefaultSelector()
        for connection in connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._going: dict[tuple[Connection, int], _Going] = {}
        self._latencies: list[float] = []
        self._failed = 0
        self._stopping = False

    def closed(self, visits: Iterator[Visit], seconds: float, warm_seconds: float = 0.0) -> Measured:
        """As many turns as the server answers: each stream begins the next as soon as the last is answered."""
        start = time.perf_counter()
        begins, until = start + warm_seconds, start + warm_seconds + seconds
        for connection in self._connections:
            for _ in range(self._streams):
                self._next(connection, iter(()), visits)
        warmed = self._mark(0.0) if not warm_seconds else None
        while (now := time.perf_counter()) < until and self._going:
            if warmed is None and now >= begins:
                warmed = self._mark(now)
            self._receive(until - now, visits)
        assert warmed is not None
        began = warmed[0] or start
        measured = self._measured(warmed, time.perf_counter() - began)
        self._drain()
        self._stopping = False
        return measured

    def open(self, turns: Iterable[Turn], due_seconds: Sequence[float]) -> Measured:
        """Begins each turn when it is due, whether or not those before it were answered; streams are not limited."""
        mark, start = self._mark(0.0), time.perf_counter()
        for number, (turn, due) in enumerate(zip(turns, due_seconds, strict=False)):
            while (wait := start + due - time.perf_counter()) > 0:
                self._receive(wait, iter(()))
            connection = self._connections[number % len(self._connections)]
            self._send(connection, _Going(start + due, turn, 0, iter(())))
        self._drain()
        return self._measured(mark, time.perf_counter() - start)

    def close(self) -> None:
        for connection in self._connections:
            connection.socket.close()
        self._selector.close()

    def _next(self, connection: Connection, rest: Iterator[Turn], visits: Iterator[Visit]) -> None:
        if self._stopping:
            return
        turn = next(rest, None)
        if turn is None:
            visit = next(visits, None)
            if visit is None:
                return
            rest = iter(visit)
            turn = next(rest)
        self._send(connection, _Going(time.perf_counter(), turn, 0, rest))

    def _send(self, connection: Connection, going: _Going) -> None:
        self._going[connection, connection.send(going.turn[going.place])] = going

    def _receive(self, wait_seconds: float, visits: Iterator[Visit]) -> None:
        for key, _ in self._selector.select(max(0.0, wait_seconds)):
            connection: Connection = key.data
            for call, good in connection.receive():
                going = self._going.pop((connection, call))
                if not good:
                    self._failed += 1
                elif going.place + 1 < len(going.turn):
                    self._send(connection, going._replace(place=going.place + 1))
                    continue
                else:
                    self._latencies.append(time.perf_counter() - going.began)
                self._next(connection, going.rest, visits)

    def _drain(self) -> None:
        self._stopping = True
        until = time.perf_counter() + CLOSED_SECONDS
        while self._going and (left := until - time.perf_counter()) > 0:
            self._receive(left, iter(()))
        self._failed += len(self._going)
        self._going.clear()

    def _mark(self, now: float) -> tuple[float, int, int, float]:
        return now, len(self._latencies), self._failed, time.process_time()

    def _measured(self, mark: tuple[float, int, int, float], seconds: float) -> Measured:
        _, answered, failed, spent = mark
        latencies = self._latencies[answered:]
        return Measured(len(latencies), seconds, latencies, self._failed - failed, time.process_time() - spent)


def grpc_generator(port: int, connections: int, streams: int) -> Generator:
    return Generator([Http2(port) for _ in range(connections)], streams)


def http_generator(port: int, connections: int, streams: int) -> Generator:
    """As many calls at a time: on HTTP/1.1 each needs a connection of its own."""
    return Generator([Http1(port) for _ in range(connections * streams)], 1)


def _connected(port: int) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _header(kind, flags, stream, len(payload)) + payload


def _header(kind: int, flags: int, stream: int, size: int) -> bytes:
    return struct.pack("!IBI", size << 8 | kind, flags, stream)
