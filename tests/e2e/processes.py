"""The processes of a server under test."""

import sys
import time
from pathlib import Path

PROGRAM = [sys.executable, "-m", "steersman_service"]
IMPATIENT = """
from steersman_service.cli.main import main
from steersman_service.processes import child, supervisor

supervisor.METRICS_SECONDS, child.END_SECONDS = 0.25, 1.0
main()
"""
# The same, with less patience: tests that stop a process wait for its metrics with every scrape, and for its end.
IMPATIENT_PROGRAM = [sys.executable, "-c", IMPATIENT]


def children_of(pid: int, module: str) -> list[int]:
    """Those of its children that run this module."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if module.encode() in command_of(child)]


def command_of(pid: str) -> bytes:
    """Nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def workers_of(pid: int) -> list[int]:
    return children_of(pid, "steersman_service.processes.front_end")


def engines_of(pid: int) -> list[int]:
    return children_of(pid, "steersman_service.processes.engine_host")


def engine_of(pid: int) -> int:
    (engine,) = engines_of(pid)
    return engine


def until_gone(pid: int) -> None:
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)
