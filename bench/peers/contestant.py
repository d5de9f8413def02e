"""A server under test: how it is started, what it is sent, what it answers."""

import contextlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import grpc

from bench.peers.client import Generator, Message, Turn, grpc_generator
from bench.peers.served.ranker import Request
from bench.peers.traffic import Session

SERVED = Path(__file__).with_name("served")
START_SECONDS = 120.0
STOP_SECONDS = 15.0
CALL_SECONDS = 20.0
POLL_SECONDS = 0.1


class NotThere(Exception):
    """The peer cannot be measured here, and why."""


class Contestant(Protocol):
    """A kind of server. It lies ready in `folder` (graphs of the bundle among others) and listens on `port`."""

    @property
    def name(self) -> str: ...
    def start(self, port: int) -> "Process": ...
    def ready(self, port: int) -> bool:
        """Whether it answers."""

    def turn(self, request: Request) -> Turn:
        """Calls that ask for it, the history being sent whole."""

    def read(self, answer: bytes) -> tuple[list[int], list[float]]:
        """Rows and scores of an answer."""

    def visits(self, sessions: Sequence[Session]) -> list[Sequence[Turn]]:
        """The turns of sessions."""

    def remember(self, port: int, sessions: Sequence[Session]) -> None:
        """Tells the server what is before the sessions' turns, if it keeps sessions."""

    def generator(self, port: int, connections: int, streams: int) -> Generator: ...
    def call(self, port: int, message: Message) -> bytes:
        """The answer to one call."""


@dataclass(frozen=True)
class Peer(ABC):
    """What contestants without sessions have in common: the client sends the whole history each time."""

    python: Path
    """Of the peer's virtual environment."""
    graphs: Path
    """Folder that graphs.py has written."""
    work: Path
    """Folder of its own."""
    copies: int
    """Instances, replicas or workers that compute, one thread each."""

    def visits(self, sessions: Sequence[Session]) -> list[Sequence[Turn]]:
        return [[self.turn(request) for request in session.turns] for session in sessions]

    def remember(self, port: int, sessions: Sequence[Session]) -> None:
        del port, sessions  # the client sends all of it each time

    @abstractmethod
    def turn(self, request: Request) -> Turn:
        """What the client sends for a request."""

    def generator(self, port: int, connections: int, streams: int) -> Generator:
        return grpc_generator(port, connections, streams)

    def call(self, port: int, message: Message) -> bytes:
        return grpc_call(port, message)

    def environment(self) -> dict[str, str]:
        return {"BENCH_GRAPHS": str(self.graphs), "PYTHONPATH": str(SERVED)}


def grpc_call(port: int, message: Message) -> bytes:
    """The answer, by a client that checks what the generator does not."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(message.path)
        answer: bytes = call(message.body, timeout=CALL_SECONDS)
        return answer


class Process:
    """A server process, with those that it starts, in a session of its own."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: dict[str, str], folder: Path | None = None
    ) -> None:
        """`folder`: where it runs; None: here."""
        self.name, self._log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, env=os.environ | environment, cwd=folder, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends it, by its own means if it can."""
        family = self._family()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid, started in family.items():
            if _stat(pid).started == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Raises NotThere if it ends, or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if ready():
                return
            time.sleep(POLL_SECONDS)
        said = " / ".join(self._log.read_text(errors="replace").splitlines()[-5:])
        raise NotThere(f"{self.name} does not start: {said[-600:]}")

    def processor_seconds(self) -> float:
        """That it and its descendants have spent."""
        return sum(_stat(pid).processor_seconds for pid in self._family())

    def _family(self) -> dict[int, int]:
        """Process ids of it and its descendants, with the times when they were started, by which an id used again is known."""
        parents = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        family = {self._process.pid}
        while more := {pid for pid, stat in parents.items() if stat.parent in family} - family:
            family |= more
        return {pid: parents[pid].started for pid in family if pid in parents}


class _Stat(NamedTuple):
    started: int
    processor_seconds: float
    parent: int


def _stat(pid: int) -> _Stat:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return _Stat(-1, 0.0, 0)
    ticks = int(fields[11]) + int(fields[12])
    return _Stat(int(fields[19]), ticks / os.sysconf("SC_CLK_TCK"), int(fields[1]))
