"""One of several workers: a server that shares its port, and does what its supervisor says through a socket.

It is told one line at a time: first its settings, then `listen`, then `metrics` as often as somebody asks for them, and `beat` for a sign
of life. It answers each with a line of JSON. SIGTERM, or the end of its supervisor, lets it drain; its last line is its metrics. A second
socket leads to an engine that the workers share.
"""

import asyncio
import json
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import uvloop

from steersman_service.app import Membership, first_of, running, settle
from steersman_service.errors import StartupError
from steersman_service.processes.stall import watched_loop
from steersman_service.settings import Settings
from steersman_service.telemetry.families import families
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics

LISTEN, METRICS, BEAT = b"listen\n", b"metrics\n", b"beat\n"


class Worker:
    """The worker's side of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, metrics: Metrics) -> None:
        self._reader = reader
        self._writer = writer
        self._metrics = metrics
        self._listen = asyncio.Event()
        self.stop = asyncio.Event()
        """Set when it shall drain."""

    async def obey(self) -> None:
        """Until the supervisor is gone."""
        with suppress(ConnectionError):  # it was killed, and had not read all that it was told
            async for line in self._reader:
                if line == LISTEN:
                    self._listen.set()
                elif line == BEAT:
                    self.tell(None)
                else:
                    assert line == METRICS, line
                    self.tell_metrics()
        self.stop.set()

    async def may_listen(self) -> None:
        """Raises StartupError if it shall stop instead."""
        self.tell("loaded")
        await first_of(self._listen, self.stop)
        if self.stop.is_set():
            raise StartupError("the server was stopped before it was ready")

    def tell_metrics(self) -> None:
        self.tell(families(self._metrics.registry))

    def tell(self, message: Any) -> None:
        if not self._writer.is_closing():  # uvloop refuses to write to a supervisor that is gone
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def close(self) -> None:
        """When all that was told has been sent."""
        self._writer.close()
        with suppress(OSError):  # the supervisor is gone
            await self._writer.wait_closed()


async def work(connection: socket.socket, engine: socket.socket | None = None) -> None:
    """Serves until told to stop, or until its engine is lost. A failure to start is told to the supervisor."""
    settle()
    reader, writer = await asyncio.open_connection(sock=connection)
    settings = Settings(**json.loads(await reader.readline()))
    configure_logs(settings.log_level, settings.log_format)
    metrics, lost = Metrics(collected=settings.metrics == "on"), False
    worker = Worker(reader, writer, metrics)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the supervisor, and may be sent to all
    obeying = asyncio.create_task(worker.obey())
    try:
        async with running(settings, Membership(metrics, worker.may_listen, engine)) as ports:
            worker.tell("ready")
            with watched_loop(settings.stall_seconds):
                await first_of(worker.stop, ports.engine_lost)
            lost = ports.engine_lost.is_set()
    except StartupError as error:
        worker.tell({"failed": str(error)})
    worker.tell_metrics()
    obeying.cancel()
    await worker.close()
    if lost:
        sys.exit(1)


if __name__ == "__main__":
    uvloop.run(work(*(socket.socket(fileno=int(file)) for file in sys.argv[1:])))
