"""Both sides of the socket between a supervisor and its children. The rest: tests/e2e/test_serve_workers.py."""

import asyncio
import socket
import sys
from typing import cast

import pytest
import uvloop

from steersman_service.errors import StartupError
from steersman_service.processes.child import ChildProcess, opened
from steersman_service.processes.link import Beat, Link, Report, from_child
from steersman_service.scheduling.frames import FrameReader, frame
from steersman_service.telemetry.families import Family
from steersman_service.telemetry.metrics import Metrics


def test_a_supervisor_that_is_killed_before_it_has_read_everything_is_gone() -> None:
    async def outlive_it() -> None:
        ours, theirs = socket.socketpair()
        link = Link(*await asyncio.open_connection(sock=theirs))
        link.report()
        await asyncio.sleep(0)
        ours.close()
        await link.obey(Metrics())
        assert link.drain.is_set()
        link.report()
        await link.close(asyncio.create_task(link.obey(Metrics())))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(outlive_it())


def test_the_last_report_is_read_though_the_child_had_not_read_the_last_question() -> None:
    async def last_report() -> int:
        ours, theirs = socket.socketpair()
        reader, writer = await opened(ours)
        writer.write(b"beat")
        await asyncio.sleep(0)
        theirs.sendall(b"report" * 10_000)
        theirs.close()
        await asyncio.sleep(0.1)
        return len(await reader.read())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(last_report()) == 60_000


def test_the_last_report_is_read_though_a_question_comes_after_it() -> None:
    async def last_report() -> bool:
        ours, theirs = socket.socketpair()
        reader, writer = await opened(ours)
        # A supervisor that is busy: it asks before it reads.
        cast(asyncio.Transport, writer.transport).pause_reading()
        link = Link(*await asyncio.open_connection(sock=theirs))
        link.report()
        ending = asyncio.create_task(link.close(asyncio.create_task(link.obey(Metrics()))))
        await asyncio.sleep(0.1)
        writer.write(frame([Beat()]))
        await asyncio.sleep(0.1)
        cast(asyncio.Transport, writer.transport).resume_reading()
        told = FrameReader(from_child).messages(await reader.read())
        writer.close()
        await ending
        return any(isinstance(each, Report) for each in told)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(last_report())


SPEAKS = "import os, socket, sys; socket.socket(fileno=int(sys.argv[1])).send(bytes.fromhex(sys.argv[2])); os.kill(os.getpid(), 9)"


@pytest.mark.parametrize("cut", [0, 3])
async def test_a_child_that_is_killed_is_counted_as_of_its_last_whole_report(cut: int) -> None:
    families = [Family("calls", "Calls.", "counter", [("calls_total", {}, 7.0)])]
    told = frame([Report(families)])
    ours, theirs = socket.socketpair()
    with theirs:
        command = (sys.executable, "-c", SPEAKS, str(theirs.fileno()), told[: len(told) - cut].hex())
        process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()])
    child = ChildProcess("front_end", process, await opened(ours), float("inf"))
    with pytest.raises(StartupError, match="the front end ended with exit code -9"):
        await child.loaded()
    assert await child.ended == -9
    assert [*child.families] == ([] if cut else families)
