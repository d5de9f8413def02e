"""Plots of a run: latency by percentile, and calls over time."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steersman_loadtest.run_statistics import LatencyHistogram, RunStatistics, percentiles


def plot(figures: RunStatistics, path: Path) -> None:
    """Writes the plots, in the format of the file's suffix."""
    picture = Figure(figsize=(8, 8), layout="constrained")
    above, below = picture.subplots(2)
    _plot_latency(above, figures)
    _plot_rates(below, figures)
    picture.suptitle(f"{figures.name}: {figures.rate:.0f} calls a second for {figures.seconds:.0f} s")
    picture.savefig(path, dpi=120)


def _plot_latency(axes: Axes, figures: RunStatistics) -> None:
    """x is 1 / (1 - percentile / 100), on a logarithmic axis."""
    axes.plot(*_curve(figures.latency), color="black", label="all")
    for kind, times in figures.latency_by_kind.items():
        if times.count:
            axes.plot(*_curve(times), linewidth=1, label=kind.value)
    nines = len(str(max(10, figures.latency.count)))
    axes.set_xscale("log", base=10)
    axes.set_xticks([10.0**n for n in range(nines)], ["0", *(f"{100 - 100 / 10**n:g}" for n in range(1, nines))])
    axes.minorticks_off()
    axes.set(xlabel="percentile", ylabel="milliseconds from when calls were due", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()


def _curve(times: LatencyHistogram) -> tuple[list[float], list[float]]:
    below = [percentile for percentile in percentiles(times.count) if percentile < 100]
    x = [1 / (1 - percentile / 100) for percentile in below]
    return [*x, max(1.0, times.count)], [times.milliseconds(percentile) for percentile in (*below, 100)]


def _plot_rates(axes: Axes, figures: RunStatistics) -> None:
    for name in ("sent", "answered", "degraded", "refused", "errors"):
        counts = [getattr(second, name) for second in figures.series]
        if any(counts) or name == "errors":
            axes.stairs(counts, label=name, baseline=None)
    axes.set(xlabel="seconds since the run began", ylabel="calls in a second", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
