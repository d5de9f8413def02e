"""A process that trains in turns and stands still between them."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parents[3]


class Turn(NamedTuple):
    """What was trained in one turn."""

    events: int
    """Targets of the loss, padding not counted."""
    steps: int
    """Optimiser steps."""
    seconds: float
    """From the beginning of the turn to the end of its last step."""
    processor_seconds: float
    """Of all threads of the process in that time, those that it has started left out."""

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds


class Contestant:
    """Between turns it is stopped (SIGSTOP), and so are the processes that it has started: no turn pays for another's work.

    In a process group of its own within this session, so that the kernel ends it, should this process be killed.
    """

    def __init__(self, name: str, command: Sequence[str], threads: int, log: Path) -> None:
        """Starts it and waits until it is about to train. Raises SystemExit if it fails."""
        self.name, self._log = name, log
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
                process_group=0,
            )  # fmt: skip
        self.facts = self._answer()
        """What it tells of itself: versions, threads."""
        self._signal(signal.SIGSTOP)

    def turn(self, seconds: float) -> Turn:
        """Lets it train for at least so long, and at least one step. Raises SystemExit if it fails."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        print(seconds, file=self._process.stdin, flush=True)
        turn = Turn(**self._answer())
        self._signal(signal.SIGSTOP)
        return turn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._close()
            said = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
            raise SystemExit(f"{self.name} has ended with status {self._process.returncode}:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _close(self) -> None:
        # Also where the process itself has ended: those that it has started may live on.
        with self._process, contextlib.suppress(ProcessLookupError):
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)
