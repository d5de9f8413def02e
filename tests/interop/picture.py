"""Draws the dashboard from Prometheus' answers: its panels, in their places, over one run."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from tests.interop.dashboard import Panel, Query, panels
from tests.interop.prometheus import Prometheus, Series

matplotlib.use("Agg")

STEP_SECONDS = 1.0
WINDOW_SECONDS = 5
COLUMNS, COLUMN_INCHES, ROW_INCHES = 24, 0.72, 0.3
FORMATS: dict[str, Formatter] = {
    "percentunit": FuncFormatter(lambda value, _: f"{100 * value:.3g}%"),
    "s": EngFormatter("s"),
    "bytes": EngFormatter("B"),
    "reqps": EngFormatter("/s"),
    "ops": EngFormatter("/s"),
}
SHORT = FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}")
BLUE, ORANGE = "#1f60c4", "#e0752d"
COLOURS = {"red": "#c4162a", "orange": ORANGE, "green": "#37872d"}


class Answer(NamedTuple):
    """A line of a panel, on the picture's times."""

    label: str
    series: Series
    values_T: NDArray[np.float64]
    """NaN where there is none."""


class Span(NamedTuple):
    """What the picture is of."""

    prometheus: Prometheus
    start: float
    """Unix seconds."""
    end: float

    @property
    def times_T(self) -> NDArray[np.float64]:
        """Seconds from the start."""
        return np.arange(0.0, self.end - self.start, STEP_SECONDS)

    def answers(self, panel: Panel) -> list[Answer]:
        return [answer for query in panel.queries for answer in self._answers(query)]

    def moving(self, panel: Panel) -> list[Answer]:
        """Those that are not 0 throughout, or all if none is."""
        answers = self.answers(panel)
        return [answer for answer in answers if np.nan_to_num(answer.values_T).any()] or answers

    def _answers(self, query: Query) -> list[Answer]:
        start = self.end if query.instant else self.start
        found = self.prometheus.query(query.expression, start, self.end, STEP_SECONDS)
        return [Answer(_named(query.legend, series.labels), series, self._aligned(series)) for series in found]

    def _aligned(self, series: Series) -> NDArray[np.float64]:
        values_T = np.full(len(self.times_T), np.nan)
        steps = np.rint((series.times - self.start) / STEP_SECONDS).astype(int)
        inside = steps < len(values_T)
        values_T[steps[inside]] = series.values[inside]
        return values_T


def draw(prometheus: Prometheus, start: float, end: float, out: Path) -> int:
    """Writes the picture of what happened from `start` to `end` (Unix seconds). Gives the number of panels.

    Lines that are 0 throughout are left out where others are not.
    """
    span = Span(prometheus, start, end)
    every = panels(window_seconds=WINDOW_SECONDS, range_seconds=math.ceil(end - start))
    rows = max(y + height for _, y, _, height in (panel.grid for panel in every))
    with matplotlib.rc_context({"font.size": 7, "axes.titlesize": 8.5, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure((COLUMNS * COLUMN_INCHES, rows * ROW_INCHES), facecolor="white")
        for panel in every:
            axes = figure.add_axes(_place(panel, rows))
            draws = DRAWERS[panel.kind] if panel.kind == "row" or span.answers(panel) else _nothing
            draws(axes, panel, span)
            axes.set_title(panel.title, loc="left", fontweight="bold", color="#333333")
        figure.savefig(out, dpi=100)
    return sum(panel.kind != "row" for panel in every)


def _place(panel: Panel, rows: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height as parts of the figure, with room for a title, and for what axes say."""
    x, y, width, height = panel.grid
    left, right, top, bottom = (0.95, 0.35, 1.0, 2.0) if panel.kind in GRAPHS else (0.3, 0.35, 1.0, 0.2)
    if panel.kind == "row":
        left, top, bottom = 0.3, 0.8, 0.1
    bottom_row = rows - y - height + bottom
    return (x + left) / COLUMNS, bottom_row / rows, (width - left - right) / COLUMNS, (height - top - bottom) / rows


def _nothing(axes: Axes, panel: Panel, span: Span) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, "no data now", ha="center", va="center", transform=axes.transAxes)


def _row(axes: Axes, panel: Panel, span: Span) -> None:
    axes.axis("off")
    axes.axhline(0, color="#999999", linewidth=2)


def _stat(axes: Axes, panel: Panel, span: Span) -> None:
    axes.axis("off")
    value = float(span.answers(panel)[0].series.values[-1])
    colour = next((name for limit, name in reversed(panel.thresholds) if value >= limit), "")
    text = panel.texts.get(f"{value:g}") or _format(panel.unit)(value, None)
    shade = COLOURS.get(colour, BLUE)
    axes.text(0.5, 0.45, text, ha="center", va="center", transform=axes.transAxes, fontsize=20, color=shade)


def _timeseries(axes: Axes, panel: Panel, span: Span) -> None:
    answers = span.moving(panel)
    values = [np.nan_to_num(answer.values_T) for answer in answers]
    if panel.stacked:
        axes.stackplot(span.times_T, values, labels=[answer.label for answer in answers], alpha=0.7)
        highest = np.sum(values, axis=0).max()
    else:
        for answer in answers:
            axes.plot(span.times_T, answer.values_T, label=answer.label, linewidth=1.2)
        highest = np.max(values)
    axes.set(xlim=(0, span.times_T[-1]), ylim=(0, 1.1 * highest or 1))
    axes.xaxis.set_major_formatter(EngFormatter("s"))
    axes.yaxis.set_major_formatter(_format(panel.unit))
    for limit, colour in panel.thresholds:
        if colour in COLOURS:
            axes.axhline(limit, color=COLOURS[colour], linestyle="--", linewidth=0.8)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=5, columnspacing=1, frameon=False, fontsize=6)


def _heatmap(axes: Axes, panel: Panel, span: Span) -> None:
    limits, counts_LT = _buckets(span.answers(panel), lambda answer: answer.values_T)
    axes.pcolormesh(span.times_T, np.arange(len(limits)), counts_LT, cmap="Oranges", shading="nearest")
    axes.set_yticks(range(len(limits)), limits)
    axes.tick_params("y", labelsize=6)
    axes.xaxis.set_major_formatter(EngFormatter("s"))
    axes.grid(False)


def _bars(axes: Axes, panel: Panel, span: Span) -> None:
    limits, counts_L1 = _buckets(span.answers(panel), lambda answer: answer.series.values[-1:])
    bars = axes.barh(limits, counts_L1[:, 0], color=ORANGE)
    axes.bar_label(bars, fmt="{:,.0f}", padding=2)
    axes.margins(x=0.12)
    axes.tick_params("y", labelsize=6)


def _table(axes: Axes, panel: Panel, span: Span) -> None:
    axes.axis("off")
    rows = [[_short(answer.series.labels[name]) for name in panel.columns] for answer in span.answers(panel)]
    height = 0.25 * (1 + len(rows))
    place = Bbox.from_bounds(0, 1 - height, 1, height)
    axes.table(rows, colLabels=panel.columns, cellLoc="left", colLoc="left", edges="horizontal", bbox=place)


DRAWERS: dict[str, Callable[[Axes, Panel, Span], None]] = {
    "row": _row,
    "stat": _stat,
    "timeseries": _timeseries,
    "heatmap": _heatmap,
    "bargauge": _bars,
    "table": _table,
}
GRAPHS = ("timeseries", "heatmap", "bargauge")


def _buckets(
    answers: Sequence[Answer], values: Callable[[Answer], NDArray[np.float64]]
) -> tuple[list[str], NDArray[np.float64]]:
    """Upper limits of a histogram's buckets, rising, and what fell into each: Prometheus counts all that lies below."""
    rising = sorted(answers, key=lambda answer: float(answer.series.labels["le"]))
    counts = np.diff(np.stack([np.nan_to_num(values(answer)) for answer in rising]), axis=0, prepend=0)
    limits = [answer.series.labels["le"] for answer in rising]
    return limits, counts


def _format(unit: str) -> Formatter:
    return FORMATS.get(unit, SHORT)


def _named(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:12]}…"
