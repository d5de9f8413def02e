"""The trained side of the benchmark of training speed: training in turns, told when by the process that measures.

Imported by processes of other virtual environments too: nothing but the standard library.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Sizes:
    """What is the same for all that are compared."""

    hidden: int
    """D, the width of embeddings and residual stream."""
    blocks: int
    """Transformer blocks."""
    heads: int
    """Attention heads of a block."""
    length: int
    """Events that the model sees at most."""
    dropout: float
    """Probability of dropout."""

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(**json.loads(text))


class Turns:
    """Counts the events of training steps, and lets training go on only in its turns.

    Protocol, a line of JSON each: out `{...}` (facts) when training is about to begin; then, again and again, in the
    seconds that a turn lasts and out `{"events", "steps", "seconds", "processor_seconds"}`. A turn ends with the step in
    which its time runs out.
    """

    def __init__(self) -> None:
        """Takes standard output for itself: what the trained program prints goes to standard error from now on."""
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        # Were it open in forked processes too, the end of this one would not be seen.
        os.register_at_fork(after_in_child=self._answers.close)

    def begin(self, **facts: str | int) -> None:
        """Tells that training is ready, and waits for the first turn."""
        self._tell(facts)
        self._wait()

    def step(self, events: int) -> None:
        """To be called after each training step, with the events that it had as targets, padding not counted."""
        self._events += events
        self._steps += 1
        seconds = time.perf_counter() - self._began
        if seconds >= self._length:
            spent = time.process_time() - self._spent
            self._tell({"events": self._events, "steps": self._steps, "seconds": seconds, "processor_seconds": spent})
            self._wait()

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._events, self._steps, self._length = 0, 0, float(line)
        self._began, self._spent = time.perf_counter(), time.process_time()

    def _tell(self, answer: dict[str, str | int] | dict[str, int | float]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)
