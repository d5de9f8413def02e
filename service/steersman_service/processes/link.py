"""The child's side of the socket to its supervisor: one protocol for front ends and engine hosts.

The supervisor sends a Start, then commands. The child answers with Loaded, Ready, Alive, Report or Failed. A front end is told which
releases to hold by a Plan, and answers with Follows or CannotFollow; what callers want of releases it asks (Ask), and is answered
(Answer, Refusal). The end of the socket means Drain, so no child outlives its supervisor.
"""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import uvloop

from steersman_service.errors import (
    Draining,
    EngineFailed,
    InternalError,
    NoCanary,
    NoReleaseBefore,
    NotFound,
    ReleaseChanging,
    ReleaseRefused,
    ReleasesFixed,
    RequestError,
    StartupError,
)
from steersman_service.scheduling.events import first_of
from steersman_service.scheduling.frames import FrameReader, frame, received
from steersman_service.settings import Settings
from steersman_service.telemetry.families import Family, families
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics
from steersman_service.telemetry.traces import configure_traces, traces

# How long a thread may keep the interpreter from another one. Python's own 5 ms would delay the engine's thread after each graph.
SWITCH_SECONDS = 0.0005
# For the supervisor to read what a child that ends told last.
CLOSE_SECONDS = 5.0


# What the supervisor may answer to a caller of ReleaseService.
REFUSALS: dict[str, Callable[[str], RequestError]] = {
    each.reason: each
    for each in (ReleaseRefused, ReleaseChanging, NoCanary, NoReleaseBefore, ReleasesFixed, NotFound, Draining)
}
REFUSALS[InternalError.reason] = lambda text: InternalError()


class PlannedRelease(msgspec.Struct, frozen=True):
    """A release that front ends hold."""

    number: int
    """From 1, of this server."""
    folder: str
    sockets: list[str]
    """Of its engine hosts. None: the front end computes."""
    block: bool = False
    """Whether scenarios are replayed, and the release is refused where one moved or broke."""
    version: str = ""
    """Of the bundle, once it is known: the folder may not hold another one meanwhile."""


class Plan(msgspec.Struct, tag=True, frozen=True):
    """All that a front end holds, and where calls go: never a step, always the whole."""

    serial: int
    releases: list[PlannedRelease]
    stable: int
    """Its number."""
    canary: int = 0
    """0: there is none."""
    share: float = 0.0


class Sockets(msgspec.Struct, frozen=True):
    """Paths in the supervisor's private folder."""

    own: str = ""
    """That an engine host listens on, or a front end beside its port. Empty: none."""
    called: list[str] = []
    """Those of front ends that the gateway calls."""
    metrics: str = ""
    """Where the gateway reads the metrics of all processes. Empty: nowhere."""


class Start(msgspec.Struct, tag=True):
    """What a child is started with."""

    settings: dict[str, Any]
    sockets: Sockets = Sockets()
    plan: Plan | None = None
    """Of a front end."""


class Listen(msgspec.Struct, tag=True):
    """A front end may take calls."""


class AskMetrics(msgspec.Struct, tag=True):
    """Asks for a Report."""


class Beat(msgspec.Struct, tag=True):
    """Asks for Alive."""


class Leave(msgspec.Struct, tag=True):
    """Health says NOT_SERVING from now on, and calls are taken as before: the Drain follows."""


class Drain(msgspec.Struct, tag=True):
    """Finish the calls and end."""


class Answer(msgspec.Struct, tag=True):
    """To an Ask."""

    number: int
    data: bytes
    """A ListReleasesResponse."""


class Refusal(msgspec.Struct, tag=True):
    """Of an Ask."""

    number: int
    reason: str
    message: str


class Loaded(msgspec.Struct, tag=True):
    """It has loaded the bundle, and waits for Listen."""


class Ready(msgspec.Struct, tag=True):
    """It takes calls."""


class Alive(msgspec.Struct, tag=True):
    """Answers Beat."""


class Report(msgspec.Struct, tag=True):
    """Answers AskMetrics; sent once more before the end."""

    families: list[Family]


class Failed(msgspec.Struct, tag=True):
    """It cannot start."""

    why: str


class Follows(msgspec.Struct, tag=True):
    """It holds what the plan says, and calls go where it says."""

    serial: int
    versions: dict[int, str]
    """Of the bundles that it holds, by number."""


class CannotFollow(msgspec.Struct, tag=True):
    """A release of the plan does not load. Calls go where the plan says, but for that."""

    serial: int
    why: str


class Ask(msgspec.Struct, tag=True):
    """What a caller of ReleaseService wants."""

    number: int
    method: str
    data: bytes
    """The request."""


ToChild = Start | Listen | AskMetrics | Beat | Leave | Drain | Plan | Answer | Refusal
FromChild = Loaded | Ready | Alive | Report | Failed | Follows | CannotFollow | Ask
to_child = msgspec.msgpack.Decoder(list[ToChild])
from_child = msgspec.msgpack.Decoder(list[FromChild])


class Link:
    """Commands of the supervisor as events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames: FrameReader[ToChild] = FrameReader(to_child)
        self._metrics = Metrics(collected=False)
        self._listen = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self.plans: asyncio.Queue[Plan] = asyncio.Queue()
        """Those that came after the one of the start."""
        self.leave = asyncio.Event()
        """Set when health shall say NOT_SERVING."""
        self.drain = asyncio.Event()
        """Set when the child shall finish its calls and end."""

    async def started(self) -> Start:
        """The first message."""
        messages: Sequence[ToChild] | None = ()
        while messages is not None and not messages:
            messages = await received(self._reader, self._frames)
        if messages is None:
            sys.exit(1)
        start, *others = messages
        assert isinstance(start, Start)
        for message in others:
            self._obey(message)
        return start

    async def obey(self, metrics: Metrics) -> None:
        """Until the supervisor is gone."""
        self._metrics = metrics
        with suppress(ConnectionError):
            while (messages := await received(self._reader, self._frames)) is not None:
                for message in messages:
                    self._obey(message)
        self._end()

    async def serve(self, serving: Coroutine[Any, Any, None]) -> None:
        """Runs `serving`; Drain ends it if it comes before Loaded was told."""
        self._starting = task = asyncio.create_task(serving)
        if self.drain.is_set():
            task.cancel()
        await task

    async def may_listen(self) -> None:
        """Tells Loaded and waits for Listen. Raises StartupError if it has to stop instead."""
        self.tell(Loaded())
        self._starting = None
        await first_of(self._listen, self.drain)
        if self.drain.is_set():
            raise StartupError("the server was stopped before it was ready")

    async def ask(self, method: str, data: bytes) -> bytes:
        """What the supervisor answers to a request of ReleaseService. Raises a RequestError."""
        number = max(self._asked, default=0) + 1
        asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = asked
        self.tell(Ask(number, method, data))
        try:
            return await asked
        finally:
            del self._asked[number]

    def report(self) -> None:
        self.tell(Report(families(self._metrics.registry)))

    def _obey(self, message: ToChild) -> None:
        match message:
            case Listen():
                self._listen.set()
            case Beat():
                self.tell(Alive())
            case AskMetrics():
                self.report()
            case Plan():
                self.plans.put_nowait(message)
            case Answer(number, data):
                self._answered(number, data)
            case Refusal(number, reason, text):
                self._answered(number, REFUSALS[reason](text))
            case Leave():
                self.leave.set()
            case Drain():
                self._end()

    def _answered(self, number: int, answer: bytes | RequestError) -> None:
        """Not for a caller that has gone."""
        asked = self._asked.get(number)
        if asked is None or asked.done():
            return
        if isinstance(answer, RequestError):
            asked.set_exception(answer)
        else:
            asked.set_result(answer)

    def _end(self) -> None:
        self.drain.set()
        if self._starting:
            self._starting.cancel()

    def tell(self, message: FromChild) -> None:
        if not self._writer.is_closing():  # uvloop refuses to write to a supervisor that is gone
            self._writer.write(frame([message]))

    async def close(self, obeying: asyncio.Task[None]) -> None:
        """Sends what was told, the last report with it, and closes once the supervisor has: a command that it writes to a closed
        socket ends its reading, too. `obeying` is the task that reads commands."""
        if not self._writer.is_closing():
            self._writer.write_eof()
            await asyncio.wait([obeying], timeout=CLOSE_SECONDS)
        obeying.cancel()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


Serve = Callable[[Start, Settings, Link, Metrics], Coroutine[Any, Any, None]]


def run_child(serve: Serve, role: str) -> None:
    """Main function of a child process: the socket's file number is its argument. Traces name its `role`."""
    uvloop.run(_run(serve, role, socket.socket(fileno=int(sys.argv[1]))))


async def _run(serve: Serve, role: str, connection: socket.socket) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    reader, writer = await asyncio.open_connection(sock=connection)
    link = Link(reader, writer)
    start = await link.started()
    settings = Settings(**start.settings)
    configure_logs(settings.log_level, settings.log_format)
    metrics = Metrics(collected=settings.metrics == "on")
    metrics.watch_tasks(lambda: len(asyncio.all_tasks()))
    # The supervisor says when to stop, in the right order, even if a signal is sent to every process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    obeying = asyncio.create_task(link.obey(metrics))
    code = 0
    try:
        configure_traces(settings.traces_endpoint, settings.traces_sample, role)
        await link.serve(serve(start, settings, link, metrics))
    except asyncio.CancelledError:
        link.tell(Failed("the server was stopped before it was ready"))
    except StartupError as error:
        link.tell(Failed(str(error)))
    except EngineFailed:
        code = 1
    await asyncio.to_thread(traces().close)
    link.report()
    await link.close(obeying)
    sys.exit(code)


def settle_memory() -> None:
    """Exempts what was loaded from garbage collection, which would delay calls. What of it is let go later is freed by its references:
    a release is in no cycle (remembering.py)."""
    gc.collect()
    gc.freeze()
