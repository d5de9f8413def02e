"""An engine in a process of its own, as whoever starts it sees it. Its other side is engine_child.py, its users' remote_engine.py."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

import structlog

from steersman_service.engine_wire import Loaded, Refused, packed, receive
from steersman_service.errors import StartupError
from steersman_service.settings import Settings
from steersman_service.worker_metrics import Family

# What the process may take to end when nobody is there any more: it has at most one batch to finish.
END_SECONDS = 10.0
# What it is told when it is loaded. A connection comes along with the first.
CONNECT, METRICS = b"c", b"m"

log = structlog.get_logger()


class EngineProcess:
    """Started, connected, and ended: what it computes does not pass here.

    It lives until this side has closed and all its connections are gone: an end by itself is for the caller to hear of (`ended`).
    """

    def __init__(self, process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._asking = asyncio.Lock()
        self._closing = False
        self.pid = process.pid
        self.families: Sequence[Family] = ()
        """Its metrics, as it told them last, if it counts by itself."""
        self.ended = asyncio.create_task(self._end())
        """Gives the exit code."""

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
        engine = cls(process, ours)
        with suppress(OSError):  # it is gone already: `loaded` says so
            ours.sendall(packed(settings))
        return engine

    async def loaded(self) -> None:
        """Raises StartupError, with the engine's own words, if it cannot be loaded."""
        try:
            answer: Loaded | Refused = await asyncio.to_thread(receive, self._control)
        except (OSError, EOFError):
            code = await self.ended
            raise StartupError(f"the engine's process ended with exit code {code} before it was ready") from None
        if isinstance(answer, Refused):
            self._closing = True
            raise StartupError(answer.why)

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
        if self._asking.locked():
            return
        async with self._asking:
            with suppress(OSError, EOFError):  # it is gone, and counted as it was
                self._control.sendall(METRICS)
                self.families = await asyncio.to_thread(receive, self._control)

    async def close(self) -> None:
        """It ends when nobody else is connected either: by then, or it is killed."""
        self._closing = True
        if not self.ended.done():
            self._control.shutdown(socket.SHUT_WR)
            await asyncio.wait([self.ended], timeout=END_SECONDS)
        if not self.ended.done():
            self._process.kill()
            log.error("the engine's process does not end: killed", pid=self.pid)
            await asyncio.wait([self.ended])
        self._control.close()

    async def _end(self) -> int:
        code = await asyncio.to_thread(self._process.wait)
        # Its connections may have been found broken, and all been closed, before this is known.
        if code or not self._closing:
            log.error("the engine's process ended", pid=self.pid, exit_code=code)
        return code


def _spawned(file: int) -> "subprocess.Popen[bytes]":
    """By vfork, unlike an event loop's: gRPC, which may run already, has handlers for forks that would get in its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "steersman_service.engine_child", str(file)],
        pass_fds=[file],
        # Ctrl-C goes to every process of the terminal's group: calls in flight still need the engine.
        start_new_session=True,
    )
