"""The figures as JSON, and as a page."""

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.million.__main__ import Measured

HEAD = ("catalogue", "filter", "left", "query", "graph", "numpy", "exact", "index", "exact x", "index x", "recall@20")


def line(row: "Measured") -> str:
    return "  ".join(_cells(row))


def figures(rows: Sequence["Measured"]) -> dict[str, float]:
    """The worst over kinds of query: of everything and by share of items left, the blends' without a name of theirs."""
    named: dict[str, list[Measured]] = {}
    for row in rows:
        if row.filter.endswith("at random"):
            catalogue = "" if row.catalogue == "blends" else f"_{row.catalogue}"
            left = "" if row.left == 1 else f"_{100 * row.left:g}_percent"
            named.setdefault(f"{catalogue}{left}", []).append(row)
    of = {}
    for name, group in named.items():
        of[f"million_x_plain{name}"] = min(row.approximate_x for row in group)
        of[f"million_recall{name}"] = min(row.recall for row in group)
        of[f"million_exact_x{name}"] = min(row.exact_x for row in group)
    return of


def write(out: Path, rows: Sequence["Measured"], about: Mapping[str, object]) -> None:
    """OUT.json and OUT.md."""
    command = shlex.join(["python", "-m", "bench.million", *sys.argv[1:]])
    document = {"command": command, **figures(rows), "rows": [row._asdict() for row in rows], "about": dict(about)}
    out.with_suffix(".json").write_text(json.dumps(_rounded(document), indent=1) + "\n")
    out.with_suffix(".md").write_text(_page(rows, about, command))


def _page(rows: Sequence["Measured"], about: Mapping[str, object], command: str) -> str:
    table = [HEAD, tuple("---" for _ in HEAD), *map(_cells, rows)]
    lines = [
        "# A million items",
        "",
        f"Scoring and top 20 of {about['items']:,} items of {about['hidden']} numbers, one query at a time, on one thread of",
        f"{about['processor']}. Written by",
        "",
        f"    OMP_NUM_THREADS=1 {command}",
        "",
        "which says in its docstring what is measured. Times are medians of processor time, in milliseconds. `graph` and `numpy`",
        "score every item (the bundle's graph `search`; numpy's product and partition); `exact` is the scan in eight bits with",
        "exact rescoring, and `index` what a bundle with an index serves. x: how many times as fast as the faster of the first two,",
        f"which answered {about['timed']} queries. Recall: over {about['users']} users, other ones than those that decided how far the",
        "index looks.",
        "",
        *("| " + " | ".join(cells) + " |" for cells in table),
        "",
        "Items left by a filter at random, and items made of those of one genre. `blends` are a trained catalogue, extended;",
        "`gaussian` are independent numbers, the worst case: no item is close to another one, and the index has to look at most of them.",
        "",
    ]
    return "\n".join(lines)


def _cells(row: "Measured") -> tuple[str, ...]:
    times = (row.graph_ms, row.numpy_ms, row.exact_ms, row.approximate_ms)
    return (
        row.catalogue,
        row.filter,
        f"{row.left:.2%}",
        row.kind,
        *(f"{ms:.2f}" for ms in times),
        f"{row.exact_x:.1f}",
        f"{row.approximate_x:.1f}",
        f"{row.recall:.4f}",
    )


def _rounded(value: object) -> object:
    """To four digits: no more of a time is true."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if isinstance(value, float) and value and math.isfinite(value):
        return float(f"{value:.4g}")
    return value
