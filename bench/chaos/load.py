"""Sends requests when they are due, whether or not earlier ones were answered, and counts what became of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

from bench.chaos.callers import Caller, CallFailed
from bench.chaos.traffic import Call, SessionLedger, Traffic, read_request
from steersman.v1.session_service_pb2 import GetSessionResponse

MOST_IN_FLIGHT = 4000
AUDIT_SECONDS = 60.0
# Calls of the audit in flight.
AUDITED_AT_ONCE = 16
# Of the share answered before: less is a second in which something was wrong.
TOLERANCE = 0.001


class Record(NamedTuple):
    """One request. Times in seconds from the start of the load."""

    due: float
    done: float
    kind: str
    outcome: str
    """answered, degraded, refused (the server said why), failed."""
    reason: str


class Audit(NamedTuple):
    """What all sessions hold at the end."""

    acknowledged: int
    lost: int
    """Acknowledged, and not there."""
    duplicates: int
    """There twice."""
    unread: int
    """Sessions that could not be read."""


class Load:
    """One load on one place. Starts when entered."""

    def __init__(self, callers: Sequence[Caller], traffic: Traffic, *, rate: float, seconds: float) -> None:
        """`rate` in requests a second; `seconds` is the deadline of each."""
        self.traffic = traffic
        self.rate = rate
        self.records: list[Record] = []
        self.sent = 0
        self._callers = callers
        self._seconds = seconds
        self._in_flight: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._start = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._start

    def start(self) -> None:
        self._start = time.monotonic()
        self._sending = asyncio.create_task(self._send())

    async def finish(self) -> None:
        """Sends no more, and waits for the last answers."""
        self._over.set()
        await self._sending
        await asyncio.gather(*self._in_flight)

    async def close(self) -> None:
        for caller in self._callers:
            await caller.close()

    async def audit(self) -> Audit:
        """Reads every session. Call it when all is well again."""
        turn = asyncio.Semaphore(AUDITED_AT_ONCE)
        deadline = time.monotonic() + AUDIT_SECONDS

        async def read(session: SessionLedger) -> list[str] | None:
            async with turn:
                while time.monotonic() < deadline:
                    answer = await self._callers[0].call(read_request(session), self._seconds)
                    if isinstance(answer, GetSessionResponse):
                        return [*answer.session.item_ids]
                    if isinstance(answer, CallFailed) and answer.code == "NOT_FOUND":
                        return []
                    await asyncio.sleep(0.2)
            return None

        used = [session for session in self.traffic.sessions if session.sent]
        found = await asyncio.gather(*(read(session) for session in used))
        lost = duplicates = 0
        for session, items in zip(used, found, strict=True):
            if items is not None:
                lost += len(session.acknowledged - set(items))
                duplicates += len(items) - len(set(items))
        acknowledged = sum(len(session.acknowledged) for session in used)
        return Audit(acknowledged, lost, duplicates, sum(items is None for items in found))

    async def _send(self) -> None:
        due = 0.0
        for caller in cycle(self._callers):
            if self._over.is_set():
                return
            await asyncio.sleep(max(0.0, due - self.now))
            self.sent += 1
            if len(self._in_flight) >= MOST_IN_FLIGHT:
                self.records.append(Record(due, self.now, "", "failed", "TOO_MANY_IN_FLIGHT"))
            else:
                task = asyncio.create_task(self._call(caller, self.traffic.next(), due))
                self._in_flight.add(task)
                task.add_done_callback(self._in_flight.discard)
            due += 1 / self.rate

    async def _call(self, caller: Caller, call: Call, due: float) -> None:
        answer = await caller.call(call, self._seconds)
        if not isinstance(answer, CallFailed):
            whole = self.traffic.answered(call, answer)
            self.records.append(Record(due, self.now, call.kind, "answered" if whole else "degraded", ""))
            return
        self.traffic.failed(call)
        refused = answer.reason and answer.code != "INTERNAL"
        self.records.append(
            Record(due, self.now, call.kind, "refused" if refused else "failed", answer.reason or answer.code)
        )


class Seen(NamedTuple):
    """What clients saw."""

    sent: int
    answered: int
    degraded: int
    refused: dict[str, int]
    failed: dict[str, int]
    slowest_seconds: float
    """Of those that were answered."""
    recovery_seconds: float | None
    """None: not recovered before the end."""


def seen(records: Sequence[Record], fault: float, fault_end: float, end: float) -> Seen:
    """`fault` is when it began, `end` when the load ended. The share answered before is the level to come back to."""
    outcomes = Counter(record.outcome for record in records)
    answered = [record.done - record.due for record in records if record.outcome == "answered"]
    level = _share([record for record in records if record.due < fault])
    return Seen(
        len(records),
        outcomes["answered"],
        outcomes["degraded"],
        _reasons(records, "refused"),
        _reasons(records, "failed"),
        max(answered, default=0.0),
        _recovery(records, fault_end, end, level),
    )


def _reasons(records: Sequence[Record], outcome: str) -> dict[str, int]:
    return dict(Counter(record.reason for record in records if record.outcome == outcome).most_common())


def _share(records: Sequence[Record]) -> float:
    return sum(record.outcome == "answered" for record in records) / len(records) if records else 1.0


def _recovery(records: Sequence[Record], fault_end: float, end: float, level: float) -> float | None:
    """Seconds from the end of the fault to the first second from which on every one is at the level."""
    seconds: dict[int, list[Record]] = {}
    for record in records:
        if record.due >= fault_end:
            seconds.setdefault(int(record.due - fault_end), []).append(record)
    bad = [number for number, own in seconds.items() if _share(own) < level - TOLERANCE]
    recovered = max(bad) + 1 if bad else 0
    return float(recovered) if fault_end + recovered < end - 1 else None
