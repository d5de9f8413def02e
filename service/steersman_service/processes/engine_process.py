"""An engine in a process of its own, as whoever starts it sees it. Its other side is engine_child.py, its users' remote_engine.py."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from steersman_service.errors import StartupError
from steersman_service.processes.stall import LOADING_FACTOR, TICK_SECONDS, StallClock, cpu_of_process
from steersman_service.scheduling.engine_wire import Loaded, Refused, packed, received
from steersman_service.settings import Settings
from steersman_service.telemetry.families import Family

# What the process may take to end when nobody is there any more: it has at most one batch to finish.
END_SECONDS = 10.0
# What it is told when it is loaded. A connection comes along with the first.
CONNECT, METRICS, BEAT = b"c", b"m", b"b"
# How often the log says that one still loads.
LOADING_SECONDS = 30.0

log = structlog.get_logger()


class EngineProcess:
    """Started, connected, and ended: what it computes does not pass here.

    It lives until this side has closed and all its connections are gone: an end by itself is for the caller to hear of (`ended`).
    """

    def __init__(self, process: "subprocess.Popen[bytes]", control: socket.socket, stall_seconds: float) -> None:
        self._process = process
        self._control = control
        self._stall_seconds = stall_seconds
        self._asking = asyncio.Lock()
        self._refreshing = self._closing = self._killed = False
        self._device = ""
        self._answers = 0
        """To questions of this side."""
        self._beating: asyncio.Task[None] | None = None
        self.pid = process.pid
        self.families: Sequence[Family] = ()
        """Its metrics, as it told them last, if it counts by itself."""
        self.ended = asyncio.create_task(self._end())
        """Gives the exit code."""

    @property
    def gone(self) -> bool:
        """It has ended, or stood still."""
        return self._killed or self.ended.done()

    @classmethod
    def start(cls, settings: Settings) -> "EngineProcess":
        """It begins to load. Raises StartupError if there can be no process."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _spawned(theirs.fileno())
            except OSError as error:
                ours.close()
                raise StartupError(f"the engine's process cannot be started: {error.strerror}") from error
        with suppress(OSError):  # it is gone already: `loaded` says so
            ours.sendall(packed(settings))
        ours.setblocking(False)
        return cls(process, ours, settings.stall_seconds)

    async def loaded(self) -> None:
        """Raises StartupError, with the engine's own words, if it cannot be loaded."""
        try:
            answer: Loaded | Refused = await self._first_answer()
        except (OSError, EOFError):
            code = await self.ended
            raise StartupError(f"the engine's process ended with exit code {code} before it was ready") from None
        if isinstance(answer, Refused):
            self._closing = True
            raise StartupError(answer.why)
        self._device = answer.device

    def connect(self) -> socket.socket:
        """An end of a new connection, whose other end the engine has. Raises StartupError if it is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [CONNECT], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise StartupError("the engine's process has ended") from error
        return ours

    async def refresh(self) -> None:
        """Asks for its metrics, unless an earlier question is still unanswered."""
        if self._refreshing:
            return
        self._refreshing = True
        try:
            with suppress(OSError, EOFError):  # it is gone, and counted as it was
                self.families = await self._ask(METRICS)
        finally:
            self._refreshing = False

    async def watch(self, stalled: Callable[[], None]) -> None:
        """Until it has ended; if it stands still, it is killed, and `stalled` called. From when it is loaded."""
        # A GPU that hangs may let the processor wait in a loop.
        works = (lambda: 0.0) if self._device == "cuda" else (lambda: cpu_of_process(self.pid))
        clock = StallClock(self._stall_seconds, works)
        while not self.gone:
            await asyncio.sleep(TICK_SECONDS)
            if clock.stalled(self._beat()) and not self.gone:
                log.error("the engine stands still: killed", pid=self.pid, seconds=self._stall_seconds)
                self._kill()
                stalled()

    async def close(self) -> None:
        """It ends when nobody else is connected either: by then, or it is killed."""
        self._closing = True
        if not self.gone:
            self._control.shutdown(socket.SHUT_WR)
            await asyncio.wait([self.ended], timeout=END_SECONDS)
        if not self.gone:
            log.error("the engine's process does not end: killed", pid=self.pid)
            self._kill()
        # What hangs in the kernel is not even ended by that.
        await asyncio.wait([self.ended], timeout=END_SECONDS)
        if self._beating:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        self._control.close()

    def _kill(self) -> None:
        self._killed = True
        self._process.kill()

    def _beat(self) -> int:
        """Asks for a sign of life, unless an earlier question is still unanswered. How many have been answered."""
        if not self._asking.locked():
            self._beating = asyncio.create_task(self._beaten())
        return self._answers

    async def _beaten(self) -> None:
        with suppress(OSError, EOFError):
            await self._ask(BEAT)

    async def _ask(self, question: bytes) -> Any:
        async with self._asking:
            self._control.sendall(question)
            answer = await received(self._control)
            self._answers += 1
            return answer

    async def _first_answer(self) -> Any:
        """Raises StartupError if it stands still, OSError or EOFError if it is gone."""
        limit_seconds = LOADING_FACTOR * self._stall_seconds
        clock, begun, told = StallClock(limit_seconds), time.monotonic(), 1
        answer = asyncio.create_task(received(self._control))
        try:
            while not (await asyncio.wait([answer], timeout=TICK_SECONDS))[0]:
                if time.monotonic() - begun > told * LOADING_SECONDS:
                    log.info("the engine still loads", pid=self.pid, seconds=round(told * LOADING_SECONDS))
                    told += 1
                if clock.stalled(cpu_of_process(self.pid)):
                    self._kill()
                    raise StartupError(
                        f"the engine's process stood still for {limit_seconds:g} s while it loaded: killed"
                    )
            return answer.result()
        finally:
            answer.cancel()

    async def _end(self) -> int:
        code = await _waited(self._process)
        # Its connections may have been found broken, and all been closed, before this is known.
        if (code or not self._closing) and not self._killed:
            log.error("the engine's process ended", pid=self.pid, exit_code=code)
        return code


def _waited(process: "subprocess.Popen[bytes]") -> "asyncio.Future[int]":
    """Its exit code. The thread that waits for it keeps nobody from ending."""
    loop = asyncio.get_running_loop()
    code: asyncio.Future[int] = loop.create_future()

    def tell(found: int) -> None:
        if not code.done():
            code.set_result(found)

    def wait() -> None:
        found = process.wait()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=wait, name="engine's end", daemon=True).start()
    return code


def _spawned(file: int) -> "subprocess.Popen[bytes]":
    """By vfork, unlike an event loop's: gRPC, which may run already, has handlers for forks that would get in its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "steersman_service.processes.engine_child", str(file)],
        pass_fds=[file],
        # Ctrl-C goes to every process of the terminal's group: calls in flight still need the engine.
        start_new_session=True,
    )
