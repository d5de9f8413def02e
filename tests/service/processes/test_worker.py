"""The worker's side of the socket. The rest: tests/e2e/test_serve_workers.py."""

import asyncio
import socket

import uvloop

from steersman_service.processes.worker import Worker
from steersman_service.processes.worker_process import opened
from steersman_service.telemetry.metrics import Metrics


def test_a_supervisor_that_is_killed_before_it_has_read_everything_is_gone() -> None:
    async def outlive_it() -> None:
        ours, theirs = socket.socketpair()
        worker = Worker(*await asyncio.open_connection(sock=theirs), Metrics())
        worker.tell_metrics()
        await asyncio.sleep(0)
        ours.close()
        await worker.obey()
        assert worker.stop.is_set()
        worker.tell_metrics()
        await worker.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(outlive_it())


def test_the_last_line_of_a_worker_is_read_though_it_had_not_read_the_last_question() -> None:
    async def last_line() -> int:
        ours, theirs = socket.socketpair()
        reader, writer = await opened(ours)
        writer.write(b"beat\n")
        await asyncio.sleep(0)
        theirs.sendall(b"[]\n" * 20_000)
        theirs.close()
        await asyncio.sleep(0.1)
        lines = 0
        while await reader.readline():
            lines += 1
        return lines

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(last_line()) == 20_000
