"""`steersman serve` when a process of it is stopped (SIGSTOP): it stands for a deadlock, or a GPU that hangs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from tests.e2e.processes import IMPATIENT_PROGRAM, engine_of, engines_of
from tests.e2e.test_serve_engines import ENGINES, waiting
from tests.e2e.test_serve_workers import COMMAND, Load, Served, served
from tests.serving import explain

SOON = ["--stall-seconds", "2"]


def logged(server: Served, event: str) -> list[int]:
    """The processes that this happened to."""
    return [line["pid"] for line in server.log if line["event"] == event]


def test_a_process_that_stands_still_is_replaced(bundle_dir: Path, tmp_path: Path) -> None:
    with served(tmp_path, bundle_dir, *ENGINES, *SOON, program=IMPATIENT_PROGRAM) as server:
        # A server that was stopped itself (a laptop that was closed, a debugger) blames nobody: all of its processes go on.
        pids = [server.process.pid, *server.pids(), engine_of(server.process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
        with Load(server) as load:
            pass
        assert not load.errors
        assert pids[1:] == [*server.pids(), engine_of(server.process.pid)]
        # An engine that computes.
        engine, old = engine_of(server.process.pid), server.pids()
        with waiting(server, engine) as calls:
            for call in calls:
                failed = explain(call.exception())
                assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_LOST")
                assert failed.retry_seconds
        server.until("steersman_ready 1.0", "steersman_workers 2.0")
        with pytest.raises(ProcessLookupError):
            os.kill(engine, signal.SIGCONT)
        assert len(engines_of(server.process.pid)) == 1
        assert server.pids() == old
        with Load(server) as load:
            pass
        assert not load.errors
        # An idle one, too.
        again = engine_of(server.process.pid)
        os.kill(again, signal.SIGSTOP)
        server.until_at_least("steersman_worker_deaths_total", 2)
        server.until("steersman_ready 1.0")
        # A front end.
        still, other = server.pids()
        os.kill(still, signal.SIGSTOP)
        server.until_at_least("steersman_worker_deaths_total", 3)
        server.until("steersman_ready 1.0", "steersman_workers 2.0")
        assert other in server.pids()
        assert still not in server.pids()
    assert logged(server, "process killed") == logged(server, "process died") == [engine, again, still]


def test_an_engine_that_stands_still_while_it_loads_ends_the_start(bundle_dir: Path, tmp_path: Path) -> None:
    command = [*COMMAND, *ENGINES, "--data", str(tmp_path), "--bundle", str(bundle_dir), "--stall-seconds", "0.7"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (engines := engines_of(process.pid)):
            time.sleep(0.01)
        os.kill(engines[0], signal.SIGSTOP)
        assert process.stderr
        said = process.stderr.read()
    assert process.returncode == 1
    assert "stood still for 2.1 s while it loaded" in said
    assert "Traceback" not in said


BLOCKED = """
import asyncio, sys, time
import uvloop
from steersman_service.scheduling.stall import watched_loop
from steersman_service.telemetry.logs import configure_logs

async def main():
    with watched_loop(1.0):
        await asyncio.sleep(0.6)
        time.sleep(600)

configure_logs("info", "json")
uvloop.run(main())
"""


def test_an_event_loop_that_is_blocked_ends_its_process_and_says_where() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the event loop stands still" in done.stderr
    assert "line 10" in done.stderr
