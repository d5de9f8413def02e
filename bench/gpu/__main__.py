"""The engine on a GPU: checked against ONNX Runtime on the CPU, and measured. No network, no data, at most ten minutes.

make bench-gpu

Makes a bundle of random weights with D=128 and T=200, unless `--bundle` names one, and item tables of its own size and of a million
random rows; the torch backend runs with and without CUDA graphs. `--device cpu` runs the same on the CPU, with fewer items and fewer
rounds. Exits with 2 where there is no GPU, and with 1 where a way does not run, or not replay the golden rows, or where an answer in
float32 is not that of the CPU.
"""

import argparse
import dataclasses
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.gpu import report
from bench.gpu.made import made
from bench.gpu.ways import LARGEST, K, Way, agreement, mixed, requests, steered, wanted, ways, with_concept
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.engine.engine import Engine
from steersman_service.engine.index.exact import Terms
from steersman_service.engine.request import EngineRequest, EngineResult

ITEMS = 3416
"""As MovieLens-1M has in the field's benchmark."""
BATCHES = (1, 2, 4, 8, 16, 32, LARGEST)
DIFFERENT = LARGEST
"""Requests that take turns."""


def main() -> int:
    """Prints a line for each catalogue and way; writes gpu.json and gpu.md. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/gpu"))
    parser.add_argument("--bundle", type=Path, help="with graphs in TorchScript and ONNX")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--items", type=int, help="of the large table (default: a million; on a CPU 20,000)")
    parser.add_argument("--rounds", type=int, help="of one request (default: 300; on a CPU 20)")
    parser.add_argument("--seconds", type=float, help="of a batch size (default: 1; on a CPU 0.1)")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no more is begun")
    parser.add_argument(
        "--small", action="store_true", help="a bundle with D=16, T=20 and 300 items, to try the command"
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("bench-gpu: torch sees no GPU; `--device cpu` runs the same on the CPU", file=sys.stderr)
        return 2
    defaults = (1_000_000, 300, 1.0) if arguments.device == "cuda" else (20_000, 20, 0.1)
    for name, value in zip(("items", "rounds", "seconds"), defaults, strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    with tempfile.TemporaryDirectory() as folder:
        bundle = load_bundle(arguments.bundle or _made(Path(folder), small=arguments.small), "torch")
        return _measured(arguments, bundle)


def _made(folder: Path, *, small: bool) -> Path:
    if small:
        return made(folder, items=300, hidden=16, window=20, features=64)
    return made(folder, items=ITEMS, hidden=128, window=200, features=1024)


def _measured(arguments: argparse.Namespace, bundle: Bundle) -> int:
    deadline = time.monotonic() + 60 * arguments.minutes
    bandwidth = copy_bandwidth(arguments.device)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    failed: list[str] = []
    shape = bundle.manifest.shape
    about = {
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else f"a CPU, {platform.machine()}",
        "hidden": shape.hidden,
        "window": bundle.manifest.window.length,
        "weights": "of a bundle that was given" if arguments.bundle else "random",
        "torch": torch.__version__,
        "copy_gb_per_second": bandwidth / 1e9,
        "left_out": left_out,
        "failed": failed,
    }
    found = list(ways(bundle, arguments.device, failed))
    for why in failed:
        print(why, file=sys.stderr)
    for catalogue in (bundle, _with_items(bundle, arguments.items)):
        works = mixed(catalogue, np.random.default_rng(1))
        answers = wanted(catalogue, works)
        for way in found:
            if time.monotonic() > deadline:
                left_out.append(f"{way.name} of {len(catalogue.items_ND):,} items")
                continue
            row = _row(way, catalogue, works, answers, bandwidth, arguments)
            rows.append(row)
            report.write(arguments.out, rows, about)
            print("  ".join(report.cells(row)), flush=True)
    report.write(arguments.out, rows, about)
    return int(bool(failed) or any(row["exact"] and not row["within"] for row in rows))


def _with_items(bundle: Bundle, items: int) -> Bundle:
    """With an item table of random rows, as long as the bundle's are."""
    hidden = bundle.items_ND.shape[1]
    length = float(np.linalg.norm(bundle.items_ND, axis=1).mean())
    items_ND = np.random.default_rng(0).standard_normal((items, hidden), np.float32)
    items_ND *= np.float32(length / hidden**0.5)
    return dataclasses.replace(bundle, items_ND=items_ND, biases_N=np.zeros(items, np.float32))


def _row(
    way: Way,
    bundle: Bundle,
    works: Sequence[EngineRequest],
    answers: Sequence[EngineResult],
    bandwidth: float,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """One way with one catalogue."""
    rng = np.random.default_rng(2)
    engine = way.engine(bundle)
    checked = agreement(engine.run(works), answers, bundle)
    plain = requests(bundle, DIFFERENT, rng)
    edited = steered(plain, bundle, rng)
    own = len(bundle.items_ND) == bundle.manifest.shape.items
    number_bytes = 4 if way.precision in (None, "float32") else 2
    floor_ms = 1e3 * bundle.items_ND.size * number_bytes / bandwidth
    search = {size: _search_ms(engine, size, arguments) for size in (1, DIFFERENT)}
    return {
        "items": len(bundle.items_ND),
        "way": way.name,
        "exact": number_bytes == 4,
        **checked._asdict(),
        "plain": _latency(engine, plain, arguments.rounds),
        "steered": _latency(engine, edited, arguments.rounds),
        # It solves concepts on the bundle's own items.
        "concept": _latency(engine, with_concept(plain), arguments.rounds) if own else None,
        "batches": [
            {
                "batch": size,
                "plain_per_second": _per_second(engine, plain, size, arguments.seconds),
                "steered_per_second": _per_second(engine, edited, size, arguments.seconds),
            }
            for size in BATCHES
        ],
        "search": {
            "ms": search[1],
            "ms_of_64": search[DIFFERENT],
            "floor_ms": floor_ms,
            "share_of_floor": floor_ms / search[1],
        },
    }


def _latency(engine: Engine, works: Sequence[EngineRequest], rounds: int) -> dict[str, float]:
    """Of one request at a time, from the engine's call to its answer on the host."""
    for work in works[:5]:
        engine.run([work])
    milliseconds = []
    for number in range(rounds):
        began = time.perf_counter()
        engine.run([works[number % len(works)]])
        milliseconds.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(milliseconds, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _per_second(engine: Engine, works: Sequence[EngineRequest], size: int, seconds: float) -> float:
    engine.run(works[:size])
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        begin = done % (len(works) - size + 1)
        engine.run(works[begin : begin + size])
        done += size
    return done / passed


def _search_ms(engine: Engine, size: int, arguments: argparse.Namespace) -> float:
    """A search of `size` queries that are on the device: no masks and no answers are brought."""
    hidden = engine.bundle.items_ND.shape[1]
    query_BD = engine.backend.put(np.random.default_rng(3).standard_normal((size, hidden), np.float32))
    terms, ks = [Terms()] * size, [min(K, len(engine.bundle.items_ND))] * size
    on_torch_gpu = arguments.device == "cuda" and engine.backend.name == "torch"
    return _ms(lambda: engine.index.search(query_BD, terms, ks), arguments.rounds, gpu=on_torch_gpu)


def _ms(run: Callable[[], object], rounds: int, *, gpu: bool) -> float:
    """Mean of `rounds`, one after the other; on a GPU by its own events."""
    run()
    if not gpu:
        began = time.perf_counter()
        for _ in range(rounds):
            run()
        return 1e3 * (time.perf_counter() - began) / rounds
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(rounds):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / rounds


def copy_bandwidth(device: str) -> float:
    """Bytes that the device reads and writes in a second, copying a large buffer."""
    size = (1 << 30) if device == "cuda" else (1 << 26)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2e3 * size / _ms(lambda: target.copy_(source), 20, gpu=device == "cuda")


if __name__ == "__main__":
    sys.exit(main())
