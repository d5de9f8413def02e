"""The child's side of the socket to its supervisor: one protocol for front ends and engine hosts.

The supervisor sends a Start, then commands. The child answers with Loaded, Ready, Alive, Report or Failed. The end of the socket means
Drain, so no child outlives its supervisor.
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

from steersman_service.errors import EngineFailed, StartupError
from steersman_service.scheduling.frames import FrameReader, frame, received
from steersman_service.settings import Settings
from steersman_service.telemetry.families import Family, families
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics
from steersman_service.telemetry.traces import configure_traces, traces

# How long a thread may keep the interpreter from another one. Python's own 5 ms would delay the engine's thread after each graph.
SWITCH_SECONDS = 0.0005


class Start(msgspec.Struct, tag=True):
    """What a child is started with."""

    settings: dict[str, Any]
    sockets: list[str]
    """Of the engine hosts that a front end calls, or the one that an engine host listens on."""


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


ToChild = Start | Listen | AskMetrics | Beat | Leave | Drain
FromChild = Loaded | Ready | Alive | Report | Failed
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
            case Leave():
                self.leave.set()
            case Drain():
                self._end()

    def _end(self) -> None:
        self.drain.set()
        if self._starting:
            self._starting.cancel()

    def tell(self, message: FromChild) -> None:
        if not self._writer.is_closing():  # uvloop refuses to write to a supervisor that is gone
            self._writer.write(frame([message]))

    async def close(self) -> None:
        """Sends what was told, and closes."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


Serve = Callable[[Settings, list[str], Link, Metrics], Coroutine[Any, Any, None]]


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
        await link.serve(serve(settings, start.sockets, link, metrics))
    except asyncio.CancelledError:
        link.tell(Failed("the server was stopped before it was ready"))
    except StartupError as error:
        link.tell(Failed(str(error)))
    except EngineFailed:
        code = 1
    await asyncio.to_thread(traces().close)
    link.report()
    obeying.cancel()
    await link.close()
    sys.exit(code)


def settle_memory() -> None:
    """Exempts what was loaded from garbage collection, which would delay calls."""
    gc.collect()
    gc.freeze()


async def first_of(*events: asyncio.Event) -> None:
    """Returns when one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
