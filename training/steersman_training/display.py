"""Progress of a training run on a terminal, or as plain lines where there is none."""

import os
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from steersman_training.recommender.fit import Progress as FitProgress

LINES = 6  # of a stage's progress, where there is no terminal


class RichDisplay:
    """One line a stage: a bar with loss, validation NDCG@10 and the time left. Written to standard error."""

    def __init__(self) -> None:
        self.console = Console(
            stderr=True, quiet=os.environ.get("RANK", "0") != "0", markup=False, emoji=False, highlight=False
        )  # torchrun's other workers are silent
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
        )
        self.progress = Progress(*columns, console=self.console)
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish()
        self.progress.stop()

    def stage(self, name: str) -> None:
        self._finish()
        self.task = self.progress.add_task(name, total=None, note="")
        if not self.console.is_terminal:
            self.console.print(f"{name} ...", soft_wrap=True)

    def say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def recommender(self, progress: FitProgress) -> None:
        ndcg = "-" if progress.valid_ndcg is None else f"{progress.valid_ndcg:.4f}"
        note = f"loss {progress.loss:.3f}  valid NDCG@10 {ndcg}  {progress.seconds_left:.0f} s left"
        self._update(progress.epoch, progress.epochs, note)

    def sae(self, epoch: int, epochs: int, variance_explained: float) -> None:
        self._update(epoch, epochs, f"variance explained {variance_explained:.3f}")

    def step(self, done: int, total: int) -> None:
        """So much of the stage is done."""
        self._update(done, total, "")

    def _update(self, done: int, total: int, note: str) -> None:
        assert self.task is not None
        self.progress.update(self.task, completed=done, total=total, note=note)
        if not self.console.is_terminal and (done % max(1, -(-total // LINES)) == 0 or done == total):
            self.console.print(f"  {done}/{total}  {note}".rstrip(), soft_wrap=True)

    def _finish(self) -> None:
        if self.task is not None:
            total = self.progress.tasks[self.task].total or 1
            self.progress.update(self.task, total=total, completed=total)
