"""Sends calls when they are due, whether or not earlier ones were answered: an open loop."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.session_service_pb2_grpc import SessionServiceStub
from steersman_loadtest.record import CallKind, CallOutcome, CallRecord
from steersman_loadtest.traffic import Call, CheckResult, Traffic

# Timers of the event loop have a resolution of 1 ms: a call that is due within half of that leaves at once.
EARLY_SECONDS = 0.0005
# Calls of one client in flight; further ones count as unsent.
MAX_IN_FLIGHT = 10_000
# How often records are handed on.
HAND_ON_SECONDS = 0.25
# Reasons of calls without an answer of the server, by the transport's message.
TRANSPORT = {
    "failed to connect": "NOT_CONNECTED",
    "connection refused": "NOT_CONNECTED",
    "goaway": "GOAWAY",
    "deadline exceeded": "CLIENT_TIMEOUT",
}


class RunOrder(NamedTuple):
    """One client's part of a run."""

    start: float
    """Of the run, on the monotonic clock, which all processes of a machine share."""
    seconds: float
    rate: float
    """Calls a second of this client."""
    poisson: bool
    """Arrivals at random, or evenly spaced."""
    offset: float
    """Of the first evenly spaced arrival, in parts of their distance, 0 to 1."""
    seed: int
    checked: float
    """Share of the answers that are checked, 0 to 1."""
    timeout_seconds: float


class Usage(NamedTuple):
    """The time that a client used for a run."""

    cpu_seconds: float
    wall_seconds: float


def arrivals(order: RunOrder) -> Iterator[float]:
    """Seconds from the start at which calls are due."""
    rng = random.Random(order.seed)
    at = 0.0 if order.poisson else (order.offset - 1) / order.rate
    while (at := at + (rng.expovariate(order.rate) if order.poisson else 1 / order.rate)) < order.seconds:
        yield at


class Sender:
    """One client with one connection. Users and their sessions persist from run to run."""

    def __init__(
        self, channel: grpc.aio.Channel, traffic: Traffic, hand_on: Callable[[list[CallRecord]], Awaitable[None]]
    ) -> None:
        self._recommend = RecommendationServiceStub(channel).Recommend
        self._append = SessionServiceStub(channel).AppendEvents
        self._traffic, self._hand_on = traffic, hand_on
        self._records: list[CallRecord] = []
        self._in_flight: set[asyncio.Task[None]] = set()
        self._bugs: list[BaseException] = []

    async def run(self, order: RunOrder) -> Usage:
        """Sends, waits for the last answers (for the timeout at most), and hands on a record of every call."""
        rng = random.Random(order.seed + 1)
        over = asyncio.Event()
        handing_on = asyncio.create_task(self._keep_handing_on(over))
        await asyncio.sleep(order.start - time.monotonic())
        began = time.monotonic(), time.process_time()
        for at in arrivals(order):
            early = order.start + at - time.monotonic()
            # A sender that is late must yield to the event loop, too, to receive answers.
            await asyncio.sleep(early if early > EARLY_SECONDS else 0)
            self._send(order, at, checked=rng.random() < order.checked)
        await asyncio.sleep(order.start + order.seconds - time.monotonic())
        usage = Usage(time.process_time() - began[1], time.monotonic() - began[0])
        await asyncio.gather(*self._in_flight)
        over.set()
        await handing_on
        if self._bugs:
            raise self._bugs[0]
        return usage

    def _send(self, order: RunOrder, due: float, checked: bool) -> None:
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            now = time.monotonic() - order.start
            self._records.append(
                CallRecord(CallKind.PLAIN, due, now, now, CallOutcome.UNSENT, "", "TOO_MANY_IN_FLIGHT")
            )
            return
        task = asyncio.create_task(self._call(order, due, self._traffic.next(), checked))
        self._in_flight.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if error := task.exception():
            self._bugs.append(error)

    async def _call(self, order: RunOrder, due: float, call: Call, checked: bool) -> None:
        sent = time.monotonic()
        outcome, code, reason, found = CallOutcome.OK, "OK", "", CheckResult()
        method = self._append if call.kind is CallKind.APPEND else self._recommend
        try:
            answer = await method(call.request, timeout=order.timeout_seconds)  # type: ignore[arg-type]
            done = time.monotonic()
        except grpc.aio.AioRpcError as error:
            done = time.monotonic()
            outcome, code, reason = failure(error)
        else:
            found = self._traffic.answered(call, answer, checked)
            if getattr(answer, "degradations", None):
                outcome = CallOutcome.DEGRADED
        finally:
            self._traffic.done(call)
        times = (due, sent - order.start, done - order.start)
        self._records.append(CallRecord(call.kind, *times, outcome, code, reason, found.violations, found.share))

    async def _keep_handing_on(self, over: asyncio.Event) -> None:
        """Hands on the records so far at intervals, and the last ones at the end of the run."""
        while self._records or not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), HAND_ON_SECONDS)
            taken, self._records = self._records, []
            await self._hand_on(taken)


def failure(error: grpc.aio.AioRpcError) -> tuple[CallOutcome, str, str]:
    """Outcome, code and reason of a call that failed."""
    code = error.code()
    outcome = CallOutcome.REFUSED if code is grpc.StatusCode.RESOURCE_EXHAUSTED else CallOutcome.ERROR
    return outcome, code.name, _reason(error)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """The server's own, or that of the transport."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    if status is not None and any(detail.Unpack(info) for detail in status.details):
        return str(info.reason)
    text = (error.details() or "").lower()
    return next((reason for words, reason in TRANSPORT.items() if words in text), "CONNECTION_LOST")
