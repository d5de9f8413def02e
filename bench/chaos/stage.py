"""What a row needs: parts that are stopped at its end, a load, and the result."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc

from bench.chaos.callers import Caller, HttpCaller, grpc_callers
from bench.chaos.load import Audit, Load, Seen, seen
from bench.chaos.parts import Envoy, Part, Replica, Valkey, until
from bench.chaos.traffic import MOST_EVENTS, SCENARIO, Traffic
from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.scenario_service_pb2 import PutScenarioRequest, Scenario
from steersman.v1.scenario_service_pb2_grpc import ScenarioServiceStub
from steersman_service.bundle.bundle import load_bundle

T = TypeVar("T")

CHANNELS = 6
SESSIONS = 60
# Load before the fault: the level to come back to.
BEFORE_SECONDS = 5.0
DEADLINE_SECONDS = 5.0
WHOLE_SECONDS = 60.0
# Of the servers: the least that shows what a setting does, so that a row is short.
STALL_SECONDS = 2.0
DRAIN_DELAY_SECONDS = 3.0


class Options(NamedTuple):
    """What a run is told."""

    rate: float
    """Requests a second."""
    swaps: int
    """Of bundles."""
    before: str
    """The commit that an upgrade starts from. Empty: this checkout."""


class Skipped(Exception):
    """The row cannot be run here. The message says why."""


@dataclass
class Result:
    """One row. What is None or empty was not asked for."""

    seen: Seen | None = None
    audit: Audit | None = None
    mixed: int = 0
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Bars that were missed, beside those of the row's numbers."""


class Fault:
    """Marks on the clock of a load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.began: float | None = None
        self.ended: float | None = None

    def begins(self) -> None:
        self.began = self._load.now

    def ends(self) -> None:
        self.ended = self._load.now
        if self.began is None:
            self.began = self.ended


class Stage:
    """Parts of one row, in a folder of their own."""

    def __init__(self, folder: Path, bundle: Path, options: Options, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.bundle = bundle
        self.options = options
        self.result = Result()
        self._stack = stack
        self.deadline_seconds = DEADLINE_SECONDS
        """Of each request."""
        self.before_seconds = BEFORE_SECONDS
        """Load before the fault."""
        self.health_seconds: float | None = None
        """What Envoy waits for a sign of life. None: as it is configured."""
        self.sessions = SESSIONS
        """At a time."""
        self.events_per_session = MOST_EVENTS
        """The next one begins after that."""
        self._items: Sequence[str] = ()
        self._concepts: Sequence[str] = ()

    async def started(self, part: Any) -> Any:
        """The part, running until the end of the row."""
        self._stack.push_async_callback(part.stop)
        await part.start()
        return part

    async def entered(self, parts: AbstractContextManager[T]) -> T:
        """What it gives, until the end of the row. It may block."""
        made = await asyncio.to_thread(parts.__enter__)
        self._stack.push_async_callback(asyncio.to_thread, parts.__exit__, None, None, None)
        return made

    async def valkey(self, **options: str) -> Valkey:
        made: Valkey = await self.started(Valkey(self.folder / "valkey", options=options))
        return made

    def replica(self, name: str, *flags: str, store: str | None, http: bool = False) -> Replica:
        """Not started. Without `store` it keeps one of its own."""
        own = ["--stall-seconds", f"{STALL_SECONDS:g}", "--inference-threads", "1", *flags]
        if store:
            own += ["--redis-url", store]
        return Replica(self.folder / name, self.bundle, own, http=http)

    async def replicas(self, store: str, *, count: int = 3, code: Path | None = None) -> list[Replica]:
        """All ready. `code` is a checkout that they run, in place of this one."""
        flags = ("--workers", "1", "--engines", "0")
        replicas = [self.replica(f"replica-{number}", *flags, store=store) for number in range(count)]
        for replica in replicas:
            replica.run_code(code)
            replica.drain_delay_seconds = DRAIN_DELAY_SECONDS
            self._stack.push_async_callback(replica.stop)
            replica.begin()
        for replica in replicas:
            await replica.ready()
        return replicas

    async def envoy(self, replicas: Sequence[Replica]) -> Envoy:
        """Before them, with all of them healthy in its eyes."""
        made: Envoy = await self.started(Envoy(self.folder / "envoy", replicas, self.health_seconds))
        return made

    def traffic(self, name: str = "s") -> Traffic:
        """`name` begins the ids of sessions."""
        if not self._items:
            bundle = load_bundle(self.bundle, "onnx")
            self._items = [str(value) for value in bundle.items["item_id"].to_pylist()]
            self._concepts = [str(value) for value in bundle.concepts["name"].to_pylist()]
        return Traffic(
            self._items, self._concepts, sessions=self.sessions, events=self.events_per_session, seed=0, name=name
        )

    @asynccontextmanager
    async def load(
        self, target: str, *, http: bool = False, scenario: str = "", audit: bool = True
    ) -> AsyncIterator[tuple[Load, Fault]]:
        """Load on `target` while inside, and for long enough before. At the end the result is complete.

        `scenario` is where the scenario is put, if not at `target`.
        """
        await put_scenario(scenario or target)
        callers: Sequence[Caller] = [HttpCaller(target)] if http else grpc_callers(target, CHANNELS)
        load = Load(callers, self.traffic(), rate=self.options.rate, seconds=self.deadline_seconds)
        fault = Fault(load)
        load.start()
        try:
            await asyncio.sleep(self.before_seconds)
            fault.begins()
            yield load, fault
            end = load.now
            await load.finish()
            ended = fault.ended if fault.ended is not None else end
            assert fault.began is not None
            self.result.seen = seen(load.records, fault.began, ended, end)
            if audit:
                self.result.audit = await load.audit()
            self.result.mixed = load.traffic.mixed
        finally:
            await load.finish()
            await load.close()

    def note(self, text: str) -> None:
        self.result.notes.append(text)

    def expect(self, held: bool, wrong: str) -> None:
        if not held:
            self.result.wrong.append(wrong)


async def put_scenario(target: str) -> None:
    """One that requests name."""
    control = Control(concept="popularity", operation=OPERATION_ADD, strength=0.2)
    request = PutScenarioRequest(scenario=Scenario(name=SCENARIO, controls=[control]))
    deadline = time.monotonic() + WHOLE_SECONDS
    async with grpc.aio.insecure_channel(target) as channel:
        while True:
            try:
                await ScenarioServiceStub(channel).PutScenario(request, wait_for_ready=True, timeout=WHOLE_SECONDS)
                return
            except grpc.aio.AioRpcError as error:
                # The store may not have been found yet.
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.5)


async def until_whole(replica: Replica) -> None:
    await until(replica.whole, f"all processes of {replica.folder.name}", WHOLE_SECONDS)


async def until_healthy(envoy: Envoy, replicas: Sequence[Replica]) -> None:
    wanted = {replica.port for replica in replicas}
    await until(lambda: envoy.healthy() == wanted, "every replica healthy in the eyes of Envoy", WHOLE_SECONDS)


async def paused(part: Part | int, seconds: float) -> None:
    """Stopped (SIGSTOP) for so long."""
    pid = part if isinstance(part, int) else part.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


async def gone(pids: Sequence[int], seconds: float) -> float:
    """Seconds until none of these processes is there. Raises TimeoutError."""
    start = time.monotonic()
    await until(lambda: not any(_runs(pid) for pid in pids), "the end of all processes", seconds)
    return time.monotonic() - start


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
