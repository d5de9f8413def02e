"""The figures as JSON, and as a page."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.gpu.ways import CAPTURED

HEAD = (
    "items", "way", "agrees", "recall@20", "p50 ms", "p99 ms", "steered p50 ms", "concept p50 ms",
    "requests/s", "at batch", "steered requests/s", "search ms", "share of floor", "search of 64 ms",
)  # fmt: skip


def write(out: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """gpu.json and gpu.md in `out`."""
    command = shlex.join(["python", "-m", "bench.gpu", *sys.argv[1:]])
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_text(json.dumps({"command": command, "about": about, "rows": rows}, indent=1) + "\n")
    table = [HEAD, tuple("---" for _ in HEAD), *map(cells, rows)]
    lines = [
        f"# On {about['device']}",
        "",
        f"D={about['hidden']}, T={about['window']}, weights {about['weights']}. Written by",
        "",
        f"    {command}",
        "",
        "One process calls the engine; nothing is kept, so every request is computed whole, of a full window whose items are left out.",
        "`agrees`: with ONNX Runtime on the CPU, by the bundle's tolerance for float32. `steered`: eight features; `concept`:",
        "one, solved for the state, in the bundle's own catalogue alone. `search`: of one query and of 64, on the device. The",
        f"floor is the time in which the item table can be read, at {about['copy_gb_per_second']:.4g} GB/s, the speed at which the",
        "device copies a large buffer (bytes read and bytes written).",
        "",
        *("| " + " | ".join(row) + " |" for row in table),
        "",
        *_ratios(rows),
        *(f"Does not run, or not replay the golden rows, {what}" for what in about["failed"]),
        *(f"Left out, for want of time: {what}." for what in about["left_out"]),
    ]
    (out / "gpu.md").write_text("\n".join(lines).rstrip() + "\n")


def _ratios(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each way with CUDA graphs, beside the same one without."""
    plain = {(row["items"], row["way"]): row for row in rows}
    lines = []
    for row in rows:
        without = plain.get((row["items"], row["way"].removesuffix(CAPTURED)))
        if without is None or without is row:
            continue
        one, steered = (without[kind]["p50_ms"] / row[kind]["p50_ms"] for kind in ("plain", "steered"))
        batches = [
            f"{own['plain_per_second'] / other['plain_per_second']:.3g} at {own['batch']}"
            for own, other in zip(row["batches"], without["batches"], strict=True)
        ]
        lines.append(
            f"- {row['items']:,} items, {row['way']}, as against without: one request is {one:.3g} times as fast, a steered one"
            f" {steered:.3g} (p50); requests/s are {', '.join(batches)} times as many."
        )
    return [*lines, ""] if lines else []


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    best = max(row["batches"], key=lambda one: one["plain_per_second"], default=None)
    numbers = [row["plain"]["p50_ms"], row["plain"]["p99_ms"], row["steered"]["p50_ms"]]
    numbers.append(row["concept"]["p50_ms"] if row["concept"] else None)
    numbers += [best["plain_per_second"], best["batch"], best["steered_per_second"]] if best else [None] * 3
    numbers += [row["search"]["ms"], row["search"]["share_of_floor"], row["search"]["ms_of_64"]]
    return (
        f"{row['items']:,}",
        row["way"],
        "yes" if row["within"] else f"no, by {row['score_error']:.2g}",
        f"{row['recall']:.4f}",
        *("" if number is None else f"{number:.4g}" for number in numbers),
    )
