"""Curves and memory as lines, as JSON, as a page, and as pictures. Colours are those of Okabe and Ito."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure

from bench.curves.costs import BATCHES, FEATURES, USUAL_EVENTS, K
from bench.curves.curve import Curve
from bench.curves.held import MEAN_EVENTS, MEDIAN_EVENTS, TARGET, Held

COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73")
DPI = 90
MARGIN = 2
"""Above and below, so that little differences look little."""
SAYS = {
    "history length, events": f"One request, steered by {FEATURES} features, by the events of its history.",
    "feature edits": f"One request with so many features steered: its history of {USUAL_EVENTS} events computed, or its state kept.",
    "concepts": "The same with so many concepts, each solved for the state, and no features.",
    "catalogue size, items": f"The search alone, for the best {K} of so many items, by the graph `search`: the bundle's rows, resampled.",
    "batch, requests": f"A request among so many computed together: of {max(BATCHES)} histories of log-normal lengths, no controls.",
    "sessions held": "What the session store has more in use than when it was empty (`used_memory`).",
    "sessions held, visited": "An event appended and the session read in one call, in wall-clock time, without waiting"
    " for the disk (`appendfsync everysec`): by a server that has not read it before, and by one that remembers it.",
}
"""What was measured, by panel."""
BOUNDS = "`max_session_events` for each, `session_ttl_seconds` for their number"
HEAD = ("what grows", "what is paid for", "unit", "least", "at the largest", "exponent", "within a tenth of the least")


def table(curves: Sequence[Curve]) -> list[str]:
    """A line for each curve, as Markdown."""
    rows = [
        (
            curve.panel, curve.line, curve.unit, _number(min(point.cost for point in curve.points)),
            _number(curve.points[-1].cost), f"{curve.exponent:.2f}", curve.knee,
        )
        for curve in curves
    ]  # fmt: skip
    return _markdown([HEAD, *rows])


def memory_lines(held: Held) -> list[str]:
    """What sessions take, for TARGET of them too."""
    server = held.server(TARGET)
    rows = [("", "a session, bytes", f"{TARGET:,} sessions, MiB", "bounded by")]
    rows.append(("session store", f"{held.store_a_session:,.0f}", _mib(held.store(TARGET)), BOUNDS))
    for name, taken in server.items():
        entry, limit = held.caches[name], held.limits[name]
        bound = f"`{name}`, {_mib(limit)} MiB: {limit / entry:,.0f} sessions"
        rows.append((name.removesuffix("_mb").replace("_", " "), f"{entry:,.0f}", _mib(taken), bound))
    rows.append(("a server's caches together", f"{sum(held.caches.values()):,.0f}", _mib(sum(server.values())), ""))
    return _markdown(rows)


def write(out: Path, curves: Sequence[Curve], held: Held, about: Mapping[str, object]) -> None:
    """OUT/curves.json, OUT/curves.md and OUT/curves/*.png."""
    (out / "curves").mkdir(parents=True, exist_ok=True)
    document = {
        "command": _command(about),
        "sessions_100k_store_mib": held.store(TARGET) / 2**20,
        "sessions_100k_server_mib": sum(held.server(TARGET).values()) / 2**20,
        "curves": [
            {**curve._asdict(), "exponent": curve.exponent, "flat": curve.flat, "knee": curve.knee} for curve in curves
        ],
        "memory": held._asdict(),
        "about": dict(about),
    }
    (out / "curves.json").write_text(json.dumps(_rounded(document), indent=1) + "\n")
    (out / "curves.md").write_text("\n".join(_page(out, curves, held, about)))


def _command(about: Mapping[str, object]) -> str:
    return f'make bench-curves BUNDLE=... SESSIONS="{about["sessions"]}"'


def _page(out: Path, curves: Sequence[Curve], held: Held, about: Mapping[str, object]) -> Iterator[str]:
    yield from (
        "# Cost curves",
        "",
        f"A bundle of {about['items']:,} items, D={about['hidden']}, a window of {about['window']} events;"
        f" one thread of {about['processor']}. Written by",
        "",
        f"    {_command(about)}",
        "",
        f"Microseconds are processor time of the thread that computes, unless a section says otherwise: medians of {about['rounds']} runs",
        f"that take turns, each after a warm-up (a quarter as many of batches). {K} items are asked for. The exponent is p in c x^p,",
        "over the upper half of the points beyond 0; the last column says where a cost leaves its least, or comes to it: the knees.",
        "",
        *table(curves),
        "",
    )
    for panel, group in groupby(curves, key=lambda curve: curve.panel):
        lines = list(group)
        yield from (f"## {panel[0].upper()}{panel[1:]}", "", SAYS[panel], "")
        yield from (f"![{panel}](curves/{_picture(out / 'curves', panel, lines)})", "")
        yield from _markdown([(lines[0].unit, *(f"{point.x:,}" for point in lines[0].points))] + [
            (line.line, *(_number(point.cost) for point in line.points)) for line in lines
        ])  # fmt: skip
        yield ""
    yield from (f"## Memory for {TARGET:,} sessions", "", *memory_lines(held), "")
    yield from _about_memory(held)


def _about_memory(held: Held) -> Iterator[str]:
    parts = ", ".join(f"{size:,.0f} in `{part}`" for part, size in held.store_parts.items())
    yield from (
        f"Sessions have log-normal lengths with a median of {MEDIAN_EVENTS} and a mean of {MEAN_EVENTS} events; the store keeps",
        f"{held.events:.0f} of them on average (`max_session_events`). Event ids are as long as a UUID in hexadecimal digits.",
        "",
        f"- Store: {TARGET:,} sessions are on the line through the memory at the sizes above. At the largest of them",
        f"  {held.store_resident_a_session:,.0f} bytes a session were resident. By key, a session takes {parts}:",
        "  most of it are ids of events, remembered so that an event sent twice counts once.",
        "- Server: caches hold what the settings allow, however many sessions ask; those that asked longest ago make room.",
        "",
    )


def _picture(folder: Path, panel: str, curves: Sequence[Curve]) -> str:
    """Logarithmic where it can be; gives the name of the file."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for curve, colour in zip(curves, COLOURS, strict=False):
        label = f"{curve.line} ({', '.join(filter(None, (f'exponent {curve.exponent:.2f}', curve.knee)))})"
        axes.plot(*zip(*curve.points, strict=True), "o-", color=colour, label=label, markersize=4, linewidth=1.5)
    if curves[0].points[0].x > 0:
        axes.set_xscale("log")
    costs = [point.cost for curve in curves for point in curve.points]
    axes.set_yscale("log")
    axes.set_ylim(min(costs) / MARGIN, max(costs) * MARGIN)
    axes.set(xlabel=panel, ylabel=curves[0].unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    name = panel.partition(",")[0].replace(" ", "_") + ("_visited" if "visited" in panel else "") + ".png"
    figure.savefig(folder / name, dpi=DPI)
    return name


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = rows
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rest)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f}"


def _rounded(value: object) -> object:
    """To four digits: no more of a time is true."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
