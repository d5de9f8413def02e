"""A worker as its supervisor sees it. Its other side: worker.py."""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import structlog

from steersman_service.errors import StartupError
from steersman_service.processes.engine_process import EngineProcess
from steersman_service.processes.stall import LOADING_FACTOR, TICK_SECONDS, StallClock, cpu_of_process
from steersman_service.settings import Settings
from steersman_service.telemetry.families import Family

# A line from a worker: metrics are the longest, about 100 KB.
MAX_LINE_BYTES = 1 << 24
# What a worker may take, beyond its drain, until it has ended.
END_SECONDS = 10.0

log = structlog.get_logger()


class _Protocol(asyncio.StreamReaderProtocol):
    def connection_lost(self, exc: Exception | None) -> None:
        """As at its end: a worker that closes before it has read a question resets the connection, and its last line stays to be read."""
        super().connection_lost(None)


async def opened(connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams on a connection of which everything is read, even if the other side resets it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    transport, protocol = await loop.create_connection(lambda: _Protocol(reader), sock=connection)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class WorkerProcess:
    """Started, asked, and ended: calls do not pass here."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        engine: EngineProcess | None = None,
        stall_seconds: float = float("inf"),
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.engine = engine
        """Of others, too."""
        self._stall_seconds = stall_seconds
        self._asking = asyncio.Lock()
        self._refreshing = False
        self._answers = 0
        self._beating: asyncio.Task[None] | None = None
        self.pid = process.pid
        self.born = time.monotonic()
        self._started = False
        self.ready = False
        """It takes calls."""
        self.families: Sequence[Family] = ()
        """Its metrics, as it told them last."""
        self.ended = asyncio.create_task(self._end())
        """Gives the exit code."""

    @classmethod
    async def start(cls, settings: Settings, engine: EngineProcess | None) -> "WorkerProcess":
        """A process of its own, not a fork: gRPC does not survive one. Raises StartupError if there can be none.

        `engine` has loaded the bundle of `settings`; without one, the worker loads an engine of its own.
        """
        with engine.connect() if engine else nullcontext() as to_engine:
            ours, theirs = socket.socketpair()
            files = [connection.fileno() for connection in (theirs, to_engine) if connection]
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "steersman_service.processes.worker", *map(str, files)),
                    pass_fds=files,
                    # Ctrl-C goes to every process of the terminal's group: the supervisor alone says when to stop.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise StartupError(f"a worker cannot be started: {error.strerror}") from error
            finally:
                theirs.close()
        reader, writer = await opened(ours)
        writer.write(settings.model_dump_json().encode() + b"\n")
        return cls(process, reader, writer, engine, settings.stall_seconds)

    async def loaded(self) -> None:
        """Raises StartupError with the worker's own words."""
        await self._ask(None)

    async def listen(self) -> None:
        """Raises StartupError if it cannot."""
        await self._ask(b"listen\n")
        self._started = True
        self.ready = not self.ended.done()

    async def refresh(self) -> None:
        """Asks for its metrics, unless an earlier question is still unanswered."""
        if not self._started or self._refreshing:
            return
        self._refreshing = True
        try:
            with suppress(StartupError):
                self._told(await self._ask(b"metrics\n"))
        finally:
            self._refreshing = False

    async def watch(self) -> None:
        """Until it has ended; if it stands still, it is killed."""
        works = partial(cpu_of_process, self.pid)
        serving, loading = StallClock(self._stall_seconds, works), StallClock(LOADING_FACTOR * self._stall_seconds)
        while not self.ended.done():
            await asyncio.sleep(TICK_SECONDS)
            waited_for = works() if self._asking.locked() else None
            if serving.stalled(self._beat()) if self._started else loading.stalled(waited_for):
                log.error("worker stands still: killed", pid=self.pid, seconds=self._stall_seconds)
                self.ready = False
                with suppress(ProcessLookupError):
                    self._process.kill()
                await asyncio.wait([self.ended])

    def terminate(self) -> None:
        """It drains."""
        self.ready = False
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def stop(self, drain_seconds: float) -> None:
        """Ends it, by force if it does not end by itself."""
        self.terminate()
        done, _ = await asyncio.wait([self.ended], timeout=drain_seconds + END_SECONDS)
        if not done:
            with suppress(ProcessLookupError):
                self._process.kill()
            log.error("worker does not end: killed", pid=self.pid)
            await asyncio.wait([self.ended])

    def _beat(self) -> int:
        """Asks for a sign of life, unless an earlier question is still unanswered. How many have been answered."""
        if not self._asking.locked():
            self._beating = asyncio.create_task(self._beaten())
        return self._answers

    async def _beaten(self) -> None:
        with suppress(StartupError):
            await self._ask(b"beat\n")

    async def _ask(self, question: bytes | None) -> Any:
        """The next answer, which a worker that has been started owes without a question."""
        async with self._asking:
            if question:
                self._writer.write(question)
            line = await self._line()
        if not line:
            raise StartupError(f"a worker ended with exit code {await self._process.wait()} before it was ready")
        self._answers += 1
        answer = json.loads(line)
        if isinstance(answer, dict):
            raise StartupError(answer["failed"])
        return answer

    async def _line(self) -> bytes:
        """Nothing if it has ended, be it in the middle of a line."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return b""
        return line if line.endswith(b"\n") else b""

    async def _end(self) -> int:
        code = await self._process.wait()
        self.ready = False
        # Its last line is its metrics, if it ended by itself.
        async with self._asking:
            while line := await self._line():
                answer = json.loads(line)
                if isinstance(answer, list):
                    self._told(answer)
        self._writer.close()
        return code

    def _told(self, answer: Any) -> None:
        self.families = [Family(*family) for family in answer]
