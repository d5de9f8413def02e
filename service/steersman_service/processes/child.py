"""A child process as its supervisor sees it: a front end or an engine host. Its other side: link.py."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from steersman_service.errors import ChildDied, StartupError
from steersman_service.processes.link import (
    Alive,
    Answer,
    Ask,
    AskMetrics,
    Beat,
    CannotFollow,
    Drain,
    Failed,
    Follows,
    FromChild,
    Leave,
    Listen,
    Loaded,
    Plan,
    Ready,
    Refusal,
    Report,
    Sockets,
    Start,
    ToChild,
    from_child,
)
from steersman_service.scheduling.frames import FrameReader, frame, received
from steersman_service.scheduling.stall import LOADING_FACTOR, TICK_SECONDS, StallClock, cpu_of_process
from steersman_service.settings import Settings
from steersman_service.telemetry.families import Family

# From the end of its drain to the end of the process.
END_SECONDS = 10.0

log = structlog.get_logger()


class ChildProcess:
    """Started, asked, and ended. Requests do not pass here."""

    def __init__(
        self,
        role: str,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        stall_seconds: float,
    ) -> None:
        self.role = role
        self.pid = process.pid
        self.born = time.monotonic()
        self.families: Sequence[Family] = ()
        """Its metrics, as last reported."""
        self.ready = False
        """It takes calls."""
        self.on_ask: Callable[[Ask], None] = lambda ask: None
        """Has it answered, by `answer`."""
        self._following: dict[int, asyncio.Future[dict[int, str]]] = {}
        self._process = process
        self._reader, self._writer = streams
        self._stall_seconds = stall_seconds
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = loop.create_future()
        self._listening: asyncio.Future[None] = loop.create_future()
        self._reported = asyncio.Event()
        self._asked = False
        self._beats = 0
        """Answered."""
        self._failure = ""
        self.ended = asyncio.create_task(self._read())
        """Gives the exit code, once everything that the child told was read."""

    @classmethod
    async def start(
        cls, role: str, settings: Settings, sockets: Sockets, plan: Callable[[], Plan | None] = lambda: None
    ) -> "ChildProcess":
        """A new process, not a fork: gRPC does not survive one. `role` is "front_end", "engine_host" or "gateway".

        `plan` gives the one that it begins with; those that are made once this has returned must be sent to it.

        Raises StartupError if no process can be started.
        """
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise StartupError(f"a process cannot be started: {error.strerror}") from error
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"steersman_service.processes.{role}", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                # gRPC's own lines are no events of the log, and each handshake that fails would write one.
                env={"GRPC_VERBOSITY": "ERROR", **os.environ},
                start_new_session=True,  # Ctrl-C goes to all of a terminal's group: the supervisor alone says when to stop
            )
        except OSError as error:
            ours.close()
            raise StartupError(f"a process cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
        child = cls(role, process, await opened(ours), settings.stall_seconds)
        child._tell(Start(settings.for_child(), sockets, plan()))
        return child

    async def loaded(self) -> None:
        """Raises StartupError with the child's own words."""
        await asyncio.shield(self._loaded)

    async def listen(self) -> None:
        """Lets it take calls. Raises StartupError if it cannot."""
        self._tell(Listen())
        await asyncio.shield(self._listening)

    async def follow(self, plan: Plan) -> dict[int, str]:
        """The versions of the bundles that it holds, by number. Raises StartupError in the child's own words if one does not load;
        ChildDied."""
        if self.ended.done():
            raise ChildDied(f"the {self._name} ended")
        following: asyncio.Future[dict[int, str]] = asyncio.get_running_loop().create_future()
        self._following[plan.serial] = following
        self._tell(plan)
        try:
            return await following
        finally:
            del self._following[plan.serial]

    def answer(self, answer: Answer | Refusal) -> None:
        self._tell(answer)

    async def refresh(self) -> None:
        """Asks for its metrics and waits for them, or for its end."""
        if not self._listening.done():
            return
        if self._reported.is_set() or not self._asked:
            self._reported.clear()
            self._asked = True
            self._tell(AskMetrics())
        await self._reported.wait()

    async def watch(self) -> None:
        """Until it has ended; kills it if it stands still."""
        loading = StallClock(LOADING_FACTOR * self._stall_seconds)
        serving = StallClock(self._stall_seconds, lambda: cpu_of_process(self.pid))
        asked = 0
        while not self.ended.done():
            await asyncio.sleep(TICK_SECONDS)
            if self._beats == asked:
                self._tell(Beat())
                asked += 1
            if self._loaded.done():
                if serving.stalled(self._beats):
                    self._kill(f"stood still for {self._stall_seconds:g} s")
            elif loading.stalled((self._beats, cpu_of_process(self.pid))):
                self._kill(f"stood still for {LOADING_FACTOR * self._stall_seconds:g} s while it loaded")

    def leave(self) -> None:
        """Its health says NOT_SERVING from now on; it takes calls until it is stopped."""
        self.ready = False
        self._tell(Leave())

    async def stop(self, drain_seconds: float) -> None:
        """Drains it; kills it if it does not end by itself."""
        self.ready = False
        self._tell(Drain())
        if not (await asyncio.wait([self.ended], timeout=drain_seconds + END_SECONDS))[0]:
            self._kill("does not end")
            # A process that hangs in the kernel is not ended even by that.
            await asyncio.wait([self.ended], timeout=END_SECONDS)

    @property
    def _name(self) -> str:
        return self.role.replace("_", " ")

    def kill(self) -> None:
        self.ready = False
        with suppress(ProcessLookupError):
            self._process.kill()

    def _kill(self, why: str) -> None:
        if not self.ended.done():
            log.error("process killed", role=self.role, pid=self.pid, why=why)
            self._failure = self._failure or f"the {self._name} {why}: killed"
            self.kill()

    def _tell(self, message: ToChild) -> None:
        if not self._writer.is_closing():
            self._writer.write(frame([message]))

    async def _read(self) -> int:
        frames: FrameReader[FromChild] = FrameReader(from_child)
        while (messages := await received(self._reader, frames)) is not None:
            for message in messages:
                self._heard(message)
        self.ready = False
        self._writer.close()  # the child waits for it
        code = await self._process.wait()
        died = ChildDied(f"the {self._name} ended with exit code {code} before it was ready")
        why = StartupError(self._failure) if self._failure else died
        waiting: list[asyncio.Future[Any]] = [self._loaded, self._listening, *self._following.values()]
        for waited in waiting:
            if not waited.done():
                waited.set_exception(why)
                waited.exception()  # there may be no caller that waits
        self._reported.set()
        return code

    def _heard(self, told: FromChild) -> None:
        match told:
            case Loaded():
                self._loaded.set_result(None)
            case Ready():
                self.ready = True
                self._listening.set_result(None)
            case Alive():
                self._beats += 1
            case Report(families):
                self.families = families
                self._reported.set()
            case Failed(why):
                self._failure = why
            case Follows(serial, versions):
                if following := self._following.get(serial):
                    following.set_result(versions)
            case CannotFollow(serial, why):
                if following := self._following.get(serial):
                    following.set_exception(StartupError(why))
                else:
                    log.error("a front end does not follow", pid=self.pid, error=why)
            case Ask():
                self.on_ask(told)


class _Protocol(asyncio.StreamReaderProtocol):
    def connection_lost(self, exc: Exception | None) -> None:
        """As at the end of the stream: a child that closes before it has read a command resets the connection, and its last lines
        are still to be read."""
        super().connection_lost(None)


async def opened(connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams on a connection. Everything sent is read, even if the other side resets it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, protocol = await loop.create_connection(lambda: _Protocol(reader), sock=connection)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
