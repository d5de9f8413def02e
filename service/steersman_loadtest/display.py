"""Progress of a load test on standard error: a bar on a terminal, plain lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from steersman_loadtest.printing import printable
from steersman_loadtest.record import CallOutcome
from steersman_loadtest.run_statistics import RunStatistics

# Between plain lines.
PLAIN_LINE_SECONDS = 10.0


class LoadTestDisplay:
    """A bar for each run: rate, p50 and p99, errors, seconds left."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self._progress = Progress(*columns, console=self._console, auto_refresh=False)
        self._task: TaskID | None = None
        self._printed = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def began(self, figures: RunStatistics) -> None:
        self._printed = 0.0
        if self._console.is_terminal:
            self._task = self._progress.add_task(_title(figures), total=figures.seconds, note="")

    def goes(self, figures: RunStatistics, elapsed_seconds: float) -> None:
        left = max(0.0, figures.seconds - elapsed_seconds)
        note = f"{_note(figures, min(elapsed_seconds, figures.seconds))}, {left:.0f} s left"
        if self._task is not None:
            self._progress.update(self._task, completed=figures.seconds - left, note=note)
            self._progress.refresh()
        elif elapsed_seconds - self._printed >= PLAIN_LINE_SECONDS and left:
            self._printed = elapsed_seconds
            self.says(f"  {note}")

    def ended(self, figures: RunStatistics) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self.says(f"{_title(figures)}: {_note(figures, figures.seconds)}")

    def says(self, text: str) -> None:
        self._console.print(printable(text))


def _title(figures: RunStatistics) -> str:
    return f"{figures.name} at {figures.rate:.0f}/s for {figures.seconds:.0f} s"


def _note(figures: RunStatistics, elapsed_seconds: float) -> str:
    p50, p99 = (figures.latency.milliseconds(percentile) for percentile in (50, 99))
    parts = [f"{figures.answered / max(0.1, elapsed_seconds):.0f}/s answered", f"p50 {p50:.1f} ms", f"p99 {p99:.1f} ms"]
    parts.append(f"{figures.failed} errors")
    counted = {"refused": figures.outcomes[CallOutcome.REFUSED], "degraded": figures.outcomes[CallOutcome.DEGRADED]}
    counted["violations"] = figures.violations.total()
    parts += [f"{count} {name}" for name, count in counted.items() if count]
    return ", ".join(parts)
