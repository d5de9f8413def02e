"""Hours of steady load: whether memory, descriptors, threads, tasks and keys stay where they are.

python -m bench.chaos.soak --bundle data/bundles/current --seconds 3600

Sessions are made and expire after half a minute, bundles are swapped now and then, and metrics are scraped. Caches are small, so that they
are full after the warm-up. The exit code is 1 if a series grows, or a request fails.
"""

import argparse
import asyncio
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import uvloop
from redis import Redis

from bench.chaos.callers import HttpCaller
from bench.chaos.flatness import trend
from bench.chaos.load import Load, Seen, seen
from bench.chaos.parts import Replica
from bench.chaos.report import Document, read, write, write_table
from bench.chaos.resources import descriptors, resident_bytes, threads
from bench.chaos.stage import Options, Stage
from bench.chaos.swaps import TWO, swap, two_bundles

TTL_SECONDS = 30
# At a time, and how long each goes on: half a minute, as long as it is kept after.
SESSIONS, EVENTS_PER_SESSION = 20, 20
HTTP_SHARE = 0.1
# Caches of a size that is full after the warm-up, in MiB.
CACHES = ("--state-cache-mb", "2", "--kv-cache-mb", "8", "--session-cache-mb", "2")
ROLES = ("front_end", "engine_host", "gateway")
TASKS = re.compile(r"^steersman_event_loop_tasks (\S+)$", re.MULTILINE)
# Of the whole time: until caches are full, and the first sessions have expired.
WARM_UP_SHARE, LEAST_WARM_UP_SECONDS = 0.2, 60.0
LEAST_SECONDS = 120.0
SAMPLES, LEAST_SAMPLE_SECONDS, MOST_SAMPLE_SECONDS = 200, 1.0, 5.0
SWAPS, LEAST_SWAP_SECONDS = 20, 30.0
RESULTS = Path("docs/results")
# Of the requests without a whole answer: so many are told one by one.
MOST_TOLD = 100


class Series(NamedTuple):
    """What is watched."""

    unit: str
    limit: float
    """Growth that is allowed over the time measured, as a share of the level."""
    scale: float = 1.0
    """Of the unit."""


SERIES = {
    "resident memory, server": Series("MiB", 0.02, 1 << 20),
    "resident memory, front ends": Series("MiB", 0.02, 1 << 20),
    "resident memory, engine host": Series("MiB", 0.02, 1 << 20),
    "memory of the store": Series("MiB", 0.05, 1 << 20),
    "keys of the store": Series("keys", 0.1),
    "descriptors": Series("", 0.05),
    "threads": Series("", 0.05),
    "asyncio tasks": Series("", 0.1),
}


def main() -> None:
    """Runs, judges, and writes the report."""
    parser = argparse.ArgumentParser(
        "python -m bench.chaos.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument(
        "--seconds", type=float, default=3600, help=f"of load, the warm-up included; at least {LEAST_SECONDS:g}"
    )
    parser.add_argument("--rate", type=float, default=30, help="requests a second")
    parser.add_argument("--json", type=Path, default=RESULTS / "reliability.json")
    parser.add_argument("--page", type=Path, default=RESULTS / "reliability.md")
    parser.add_argument("--keep", type=Path, help="a folder for what the server wrote, in place of a temporary one")
    arguments = parser.parse_args()
    if not arguments.seconds >= LEAST_SECONDS:
        parser.error(f"--seconds: at least {LEAST_SECONDS:g}, for a warm-up and enough samples")
    if not arguments.rate > 0:
        parser.error("--rate: requests a second, above 0")
    if not (arguments.bundle / "manifest.json").exists():
        parser.error(f"--bundle: {arguments.bundle} is no bundle; make train makes one")
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        own = uvloop.run(_soak(arguments.keep or Path(temporary), arguments))
    document = read(arguments.json)
    document["soak"] = own
    write(arguments.json, document)
    write_table(arguments.page, "soak", table(own))
    for line in table(own):
        print(line)
    wrong = [name for name, told in own["series"].items() if told["verdict"] == "grows"]
    failed = {**own["refused"], **own["failed"]}
    if wrong or failed:
        sys.exit(f"grows: {', '.join(wrong) or 'nothing'}; requests without an answer: {failed or 'none'}")


async def _soak(folder: Path, arguments: argparse.Namespace) -> Document:
    async with AsyncExitStack() as stack:
        options = Options(rate=(1 - HTTP_SHARE) * arguments.rate, swaps=0, before="")
        stage = Stage(folder, arguments.bundle.resolve(), options, stack)
        link, bundles, marks = two_bundles(stage)
        stage.bundle = link
        stage.sessions, stage.events_per_session = SESSIONS, EVENTS_PER_SESSION
        flags = (*TWO, *CACHES, "--session-ttl-seconds", str(TTL_SECONDS))
        replica: Replica = await stage.started(stage.replica("server", *flags, store=None, http=True))
        async with (
            stage.load(replica.address, audit=False) as (load, fault),
            _over_http(stage, replica, arguments.rate) as http,
        ):
            load.traffic.marks.update(marks)
            swaps = asyncio.create_task(_swapped(replica, [*bundles], arguments.seconds))
            samples = await _sampled(replica, arguments.seconds)
            swaps.cancel()
            await asyncio.gather(swaps, return_exceptions=True)
            fault.ends()
        both = [*load.records, *http.records]
        whole = seen(both, 0.0, arguments.seconds, load.now)
        warm_up = max(LEAST_WARM_UP_SECONDS, WARM_UP_SHARE * arguments.seconds)
        for record in sorted(record for record in both if record.outcome != "answered")[:MOST_TOLD]:
            print(f"{record.due:.1f} s to {record.done:.1f} s: {record.kind} {record.outcome} {record.reason}")
        return told(
            whole, samples, warm_up, arguments.rate, len(load.traffic.bundles), load.traffic.mixed, _swap_count(replica)
        )


@asynccontextmanager
async def _over_http(stage: Stage, replica: Replica, rate: float) -> AsyncIterator[Load]:
    """A tenth of the load goes through the gateway."""
    traffic = stage.traffic("http")
    load = Load([HttpCaller(f"127.0.0.1:{replica.http_port}")], traffic, rate=HTTP_SHARE * rate, seconds=10.0)
    load.start()
    try:
        yield load
    finally:
        await load.finish()
        await load.close()


async def _swapped(replica: Replica, bundles: list[Path], seconds: float) -> None:
    every = max(LEAST_SWAP_SECONDS, seconds / SWAPS)
    async with grpc.aio.insecure_channel(replica.address) as channel:
        number = 0
        while True:
            await asyncio.sleep(every)
            number += 1
            await swap(channel, replica, bundles[number % 2].name)


def _swap_count(replica: Replica) -> int:
    return len(replica.events("release served")) or 0


async def _sampled(replica: Replica, seconds: float) -> dict[str, list[float]]:
    """Samples while there is one process of each role, as between swaps."""
    every = min(MOST_SAMPLE_SECONDS, max(LEAST_SAMPLE_SECONDS, seconds / SAMPLES))
    samples: dict[str, list[float]] = {name: [] for name in ("seconds", *SERIES)}
    store = Redis(unix_socket_path=str(replica.folder / "data" / "valkey" / "valkey.sock"))
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        if len(replica.children("engine_host")) == 1:
            found = await asyncio.to_thread(_sample, replica, store)
            samples["seconds"].append(now)
            for name, value in found.items():
                samples[name].append(value)
        await asyncio.sleep(every)
    store.close()
    return samples


def _sample(replica: Replica, store: "Redis") -> dict[str, float]:
    by_role = {role: replica.children(role) for role in ROLES}
    every = [replica.pid, *(pid for pids in by_role.values() for pid in pids)]

    def total(of: Callable[[int], int], pids: list[int]) -> float:
        return float(sum(map(of, pids)))

    tasks = TASKS.search(replica.scrape())
    return {
        "resident memory, server": total(resident_bytes, every),
        "resident memory, front ends": total(resident_bytes, by_role["front_end"]),
        "resident memory, engine host": total(resident_bytes, by_role["engine_host"]),
        "memory of the store": float(store.info("memory")["used_memory"]),
        "keys of the store": float(store.dbsize()),
        "descriptors": total(descriptors, every),
        "threads": total(threads, every),
        "asyncio tasks": float(tasks[1]) if tasks else float("nan"),
    }


def told(
    whole: Seen, samples: dict[str, list[float]], warm_up: float, rate: float, bundles: int, mixed: int, swaps: int
) -> Document:
    """The part of the document."""
    seconds = samples["seconds"]
    first = next((place for place, at in enumerate(seconds) if at >= warm_up), len(seconds))
    trends = {name: trend(seconds[first:], samples[name][first:], of.limit) for name, of in SERIES.items()}
    return {
        "seconds": round(seconds[-1]),
        "warm_up_seconds": round(warm_up),
        "rate": rate,
        "cores": os.cpu_count(),
        "swaps": swaps,
        "bundles": bundles,
        "mixed": mixed,
        **{
            name: getattr(whole, name)
            for name in ("sent", "answered", "degraded", "refused", "failed", "slowest_seconds")
        },
        "series": {
            name: {**each._asdict(), "unit": SERIES[name].unit, "limit": SERIES[name].limit}
            for name, each in trends.items()
        },
    }


def table(own: Document) -> Iterator[str]:
    yield "| what | level | growth over the time measured (95% interval) | allowed | verdict |"
    yield "| --- | --- | --- | --- | --- |"
    for name, each in own["series"].items():
        series = SERIES[name]
        level, growth, low, high = (each[part] / series.scale for part in ("level", "growth", "low", "high"))
        allowed = each["limit"] * level
        unit = f" {series.unit}" if series.unit else ""
        yield f"| {name} | {level:.0f}{unit} | {growth:+.1f} ({low:+.1f} to {high:+.1f}) | {allowed:.1f} | {each['verdict']} |"
    yield ""
    counts = ", ".join(f"{own[name] or 0} {name}" for name in ("sent", "answered", "degraded", "refused", "failed"))
    yield (
        f"{own['seconds']} s at {own['rate']:g} requests a second, the first {own['warm_up_seconds']} s left out: {counts};"
        f" {own['swaps']} swaps, {own['mixed']} answers mixed."
    )


if __name__ == "__main__":
    main()
