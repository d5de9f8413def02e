"""Calls of one method over HTTP/2 at set times, whether answers arrive or not, for as little processor time as Python allows.

Frames are written ready-made: of a call, the stream id alone is put in. Of answers, the ends of streams are read, and no message: a
call with a data frame was answered; one without was refused, with the status that stands in its headers, which the server is told
not to compress. Calls that the server's windows and its limit of streams leave no room for wait, as in any client.
"""

import asyncio
import random
import struct
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
TABLE_SIZE, MOST_STREAMS, WINDOW_SIZE = 1, 3, 4
LARGEST_WINDOW, FIRST_WINDOW = 2**31 - 1, 65_535
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Between looks at what is due.
TICK_SECONDS, WAIT_SECONDS = 0.001, 0.01
ANSWERED = "OK"
RESET_BY_SERVER, UNANSWERED = "reset", "unanswered"
# grpc-status: name, length of the value, value. grpc-message the same.
STATUS, MESSAGE = b"grpc-status", b"grpc-message"
CODES = {
    0: "OK",
    1: "CANCELLED",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    8: "RESOURCE_EXHAUSTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def literal(name: str, value: str) -> bytes:
    """A header without Huffman coding and without a place in any table."""
    return b"\x00" + _length(name) + name.encode() + _length(value) + value.encode()


def _length(text: str) -> bytes:
    """An integer of seven bits (RFC 7541, 5.1)."""
    size = len(text)
    if size < 127:
        return bytes((size,))
    return bytes((127, size - 127)) if size < 255 else bytes((127, (size - 127) & 127 | 128, (size - 127) >> 7))


def request_headers(path: str, deadline_ms: int) -> bytes:
    named = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers"}
    return b"".join(
        literal(*each)
        for each in (named | {"content-type": "application/grpc", "grpc-timeout": f"{deadline_ms}m"}).items()
    )


@dataclass
class Outcomes:
    """Of the calls of one run."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """From when each call was due to its end, by status."""
    messages: Counter[str] = field(default_factory=Counter)
    """What refusals said, without figures."""
    late_seconds: list[float] = field(default_factory=list)
    """How much later than due calls were sent: the generator's own fault."""

    def add(self, status: str, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)


class Connection(asyncio.Protocol):
    """One of HTTP/2. A call that the server's window has no room for waits."""

    def __init__(self, headers: bytes, outcomes: Outcomes) -> None:
        self._headers, self.outcomes = headers, outcomes
        self.transport: asyncio.WriteTransport
        self._data = b""
        self._stream = 1
        self._due: dict[int, float] = {}
        self._with_data: set[int] = set()
        self._window = FIRST_WINDOW
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._most_streams = LARGEST_WINDOW
        self._read_bytes = 0

    @property
    def pending(self) -> int:
        return len(self._due) + len(self._waiting)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        settings = struct.pack(">HIHI", TABLE_SIZE, 0, WINDOW_SIZE, LARGEST_WINDOW)
        grown = (LARGEST_WINDOW - FIRST_WINDOW).to_bytes(4)
        self.transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW, 0, 0, grown))

    def call(self, due: float, message: bytes) -> bytes:
        """The frames of a call. Empty: it waits for room."""
        if self._waiting or not self._has_room(message):
            self._waiting.append((due, message))
            return b""
        return self._frames(due, message)

    def _has_room(self, message: bytes) -> bool:
        return len(message) + 5 <= self._window and len(self._due) < self._most_streams

    def _frames(self, due: float, message: bytes) -> bytes:
        size = len(message) + 5
        self._window -= size
        stream, self._stream = self._stream, self._stream + 2
        self._due[stream] = due
        body = b"\x00" + len(message).to_bytes(4) + message
        return frame(HEADERS, END_HEADERS, stream, self._headers) + frame(DATA, END_STREAM, stream, body)

    def data_received(self, data: bytes) -> None:
        now, answer = time.perf_counter(), b""
        data, place = self._data + data, 0
        while len(data) - place >= 9 and len(data) - place >= (size := int.from_bytes(data[place : place + 3])) + 9:
            kind, flags, stream = data[place + 3], data[place + 4], int.from_bytes(data[place + 5 : place + 9])
            payload = data[place + 9 : place + 9 + size]
            place += size + 9
            if kind == DATA:
                self._with_data.add(stream)
                self._read_bytes += size
            elif kind == HEADERS and flags & END_STREAM:
                self._ended(stream, now, payload)
            elif kind == RESET and stream in self._due:
                self.outcomes.add(RESET_BY_SERVER, now - self._due.pop(stream))
            elif kind == WINDOW and not stream:
                self._window += int.from_bytes(payload)
            elif kind in (SETTINGS, PING) and not flags & ACK:
                if kind == SETTINGS:
                    told = dict(struct.iter_unpack(">HI", payload))
                    self._most_streams = told.get(MOST_STREAMS, self._most_streams)
                answer += frame(kind, ACK, 0, payload if kind == PING else b"")
            elif kind == GOAWAY:
                self.outcomes.messages["the server closed the connection"] += 1
        self._data = data[place:]
        if self._read_bytes > LARGEST_WINDOW // 4:
            answer += frame(WINDOW, 0, 0, self._read_bytes.to_bytes(4))
            self._read_bytes = 0
        while self._waiting and self._has_room(self._waiting[0][1]):
            answer += self._frames(*self._waiting.popleft())
        if answer:
            self.transport.write(answer)

    def finish(self) -> None:
        """What has not ended counts as unanswered."""
        now = time.perf_counter()
        for due in [*self._due.values(), *(due for due, _ in self._waiting)]:
            self.outcomes.add(UNANSWERED, now - due)
        self._due.clear()
        self._waiting.clear()

    def _ended(self, stream: int, now: float, headers: bytes) -> None:
        due = self._due.pop(stream, None)
        if due is None:
            return
        seconds = now - due
        if stream in self._with_data:
            self._with_data.discard(stream)
            self.outcomes.add(ANSWERED, seconds)
            return
        code = int(_value(headers, STATUS) or b"2")
        self.outcomes.add(CODES.get(code, str(code)), seconds)
        said = _value(headers, MESSAGE).decode("ascii", "replace").replace("%20", " ")
        self.outcomes.messages["".join(each for each in said if not each.isdigit())[:60]] += 1


def _value(headers: bytes, name: bytes) -> bytes:
    place = headers.find(name)
    if place < 0:
        return b""
    place += len(name)
    return headers[place + 1 : place + 1 + min(headers[place], 126)]


async def sent(
    host: str,
    port: int,
    path: str,
    messages: Sequence[bytes],
    dues: Sequence[float],
    deadline_ms: int,
    connections: int,
) -> Outcomes:
    """Sends a call at each of `dues` (seconds from now, in order), `messages` by turns.

    Waits for the answers, a second beyond the deadline at most.
    """
    outcomes, headers, loop = Outcomes(), request_headers(path, deadline_ms), asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(headers, outcomes), host, port) for _ in range(connections)]
    opened = [connection for _, connection in made]
    await asyncio.sleep(0.2)
    begin, number = time.perf_counter(), 0
    while number < len(dues):
        now = time.perf_counter() - begin
        batches: list[list[bytes]] = [[] for _ in opened]
        while number < len(dues) and dues[number] <= now:
            place = number % connections
            outcomes.late_seconds.append(now - dues[number])
            batches[place].append(opened[place].call(begin + dues[number], messages[number % len(messages)]))
            number += 1
        for connection, batch in zip(opened, batches, strict=True):
            if batch:
                connection.transport.write(b"".join(batch))
        await asyncio.sleep(TICK_SECONDS)
    for _ in range(int((deadline_ms / 1e3 + 1) / WAIT_SECONDS)):
        if not any(connection.pending for connection in opened):
            break
        await asyncio.sleep(WAIT_SECONDS)
    for connection in opened:
        connection.finish()
        connection.transport.abort()
    return outcomes


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times of arrivals, in order."""
    chance, now = random.Random(seed), 0.0
    while (now := now + chance.expovariate(rate)) < seconds:
        yield now
