"""What metrics, logs and traces cost: throughput of a server with them against one without, by turns in the same run.

make bench-engine

Both servers are processes of their own; this one is the client. Two processes of the same program may differ by a few per
cent for as long as they live, so every round starts both anew. `--log-level none` compares two servers without, which tells
how much of a ratio is noise. While the one with metrics has its turn it is scraped once, which is more often than
Prometheus would. `--traces 1` compares a server that records the trace of every call, and sends it to a receiver that drops it,
with one that records none; neither has metrics.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np

from bench.otlp_receiver import receiver
from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_service.bundle.bundle import Bundle, load_bundle

METHOD = "/steersman.v1.RecommendationService/Recommend"
REQUESTS = 512
CONCURRENT_CALLS = 32
START_SECONDS = 60.0
POLL_SECONDS = 0.1
# At level info no call that is answered is logged.
WITHOUT = ("--metrics", "off", "--log-level", "info")


class Server(NamedTuple):
    """One that is ready."""

    pid: int
    address: str
    metrics: str
    """Address, or "off"."""


class Turn(NamedTuple):
    calls_per_second: float
    cpu_ms_per_call: float
    """Time that the server's processes spent, in user and system mode."""


def main() -> None:
    """Prints the medians of both ways, and their ratios pair by pair."""
    parser = argparse.ArgumentParser(
        "python -m bench.overhead", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=4, help="of turns, in a round")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument(
        "--log-level", default="info", help="of the server with metrics; debug logs every call; none: no metrics either"
    )
    parser.add_argument(
        "--traces", type=float, metavar="SHARE", help="compare traces of this share of the calls, 0 to 1"
    )
    arguments = parser.parse_args()
    requests = _requests(load_bundle(arguments.bundle, "onnx"))
    level = arguments.log_level
    with_both: tuple[str, ...] = WITHOUT if level == "none" else ("--metrics", "on", "--log-level", level)
    pairs = []
    with receiver() if arguments.traces is not None else nullcontext("") as endpoint:
        if endpoint:
            with_both = (*WITHOUT, "--traces-endpoint", endpoint, "--traces-sample", str(arguments.traces))
        for number in range(arguments.rounds):
            with _both(arguments.bundle, with_both, swapped=bool(number % 2)) as servers:
                pairs += asyncio.run(_pairs(*servers, requests, arguments.pairs, arguments.seconds))
    _print(pairs)


def _requests(bundle: Bundle) -> list[bytes]:
    """Histories of any length in the window; every other one is steered by a concept."""
    rng = np.random.default_rng(0)
    item_ids, concepts = (column.to_numpy() for column in (bundle.items["item_id"], bundle.concepts["name"]))
    requests = []
    for number in range(REQUESTS):
        history = rng.choice(item_ids, int(rng.integers(1, bundle.manifest.window.length)))
        controls = [Control(concept=rng.choice(concepts), operation=OPERATION_ADD, strength=0.5)] if number % 2 else []
        requests.append(RecommendRequest(history=History(item_ids=history), controls=controls).SerializeToString())
    return requests


@contextmanager
def _both(bundle: Path, with_both: Sequence[str], *, swapped: bool) -> Iterator[tuple[Server, Server]]:
    """The server with and the one without; `swapped`: the latter starts first."""
    flags = (WITHOUT, with_both) if swapped else (with_both, WITHOUT)
    with _served(bundle, flags[0]) as first, _served(bundle, flags[1]) as second:
        yield (second, first) if swapped else (first, second)


@contextmanager
def _served(bundle: Path, flags: Sequence[str]) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        command = [
            sys.executable,
            "-m",
            "steersman_service",
            "serve",
            "--port",
            "0",
            "--metrics-port",
            "0",
            "--http",
            "off",
        ]
        command += [
            "--bundle",
            str(bundle),
            "--data",
            folder,
            "--inference-threads",
            "1",
            "--log-format",
            "json",
            *flags,
        ]
        with log.open("wb") as file, subprocess.Popen(command, stderr=file) as process:
            try:
                yield _when_ready(process, log)
            finally:
                process.terminate()


def _when_ready(process: "subprocess.Popen[bytes]", log: Path) -> Server:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if ready := next((line for line in log.read_text().splitlines() if '"ready"' in line), None):
            told = json.loads(ready)
            return Server(process.pid, told["address"], told["metrics"])
        time.sleep(POLL_SECONDS)
    raise SystemExit("a server does not start; `steersman serve` says why")


async def _pairs(
    one: Server, other: Server, requests: Sequence[bytes], count: int, seconds: float
) -> list[tuple[Turn, Turn]]:
    """Turns of both, with and without; who goes first alternates. A first pair warms up and is left out."""
    pairs = []
    async with grpc.aio.insecure_channel(one.address) as a, grpc.aio.insecure_channel(other.address) as b:
        for number in range(count + 1):
            if number % 2:
                with_both = await _turn(one, a, requests, seconds)
                without = await _turn(other, b, requests, seconds)
            else:
                without = await _turn(other, b, requests, seconds)
                with_both = await _turn(one, a, requests, seconds)
            pairs.append((with_both, without))
    return pairs[1:]


async def _turn(server: Server, channel: grpc.aio.Channel, requests: Sequence[bytes], seconds: float) -> Turn:
    call: Any = channel.unary_unary(METHOD)  # requests and answers stay bytes: the client has little to do
    waiting, done = itertools.cycle(requests), 0

    async def ask(until: float) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await call(next(waiting))
            done += 1

    cpu, start = cpu_seconds(server.pid), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT_CALLS):
            group.create_task(ask(start + seconds))
        if server.metrics != "off":
            group.create_task(asyncio.to_thread(_scrape, server.metrics))
    passed, spent = time.perf_counter() - start, cpu_seconds(server.pid) - cpu
    return Turn(done / passed, 1e3 * spent / done)


def _scrape(address: str) -> None:
    with urllib.request.urlopen(f"http://{address}/metrics") as response:
        response.read()


def cpu_seconds(pid: int) -> float:
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children))


def _print(pairs: Sequence[tuple[Turn, Turn]]) -> None:
    for what, field, unit in (("throughput", 0, "calls/s"), ("processor time", 1, "ms/call")):
        with_both, without = ([turn[field] for turn in turns] for turns in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in zip(with_both, without, strict=True))
        quartiles = statistics.quantiles(ratios, n=4)
        print(
            f"{what}: with {statistics.median(with_both):.4g} {unit}, without {statistics.median(without):.4g} {unit};"
            f" with / without: {quartiles[1]:.3f} (median of {len(ratios)} pairs; quartiles {quartiles[0]:.3f} to"
            f" {quartiles[2]:.3f})"
        )


if __name__ == "__main__":
    main()
