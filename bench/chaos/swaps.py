"""Bundles that change while a server runs."""

import asyncio
import signal
from pathlib import Path

import grpc

from bench.chaos.bundles import marked, point
from bench.chaos.parts import Replica, until
from bench.chaos.resources import resident_bytes
from bench.chaos.rows import row
from bench.chaos.stage import Stage, until_whole
from steersman.v1.release_service_pb2 import LoadReleaseRequest
from steersman.v1.release_service_pb2_grpc import ReleaseServiceStub

AFTER_SECONDS = 3.0
SWAP_SECONDS = 60.0
# From so many swaps on, growth of memory is judged: in fewer it is within the noise of the allocator.
ENOUGH_SWAPS = 50
MOST_GROWTH = 0.02
SERVER = "2 front ends, 1 engine host"
# The link is turned by the rows alone, and not followed: each change is asked for.
TWO = ("--workers", "2", "--engines", "1", "--bundle-watch-seconds", "0")


def two_bundles(stage: Stage) -> tuple[Path, list[Path], dict[str, str]]:
    """A link to the first of two bundles; both; and what marks the answers of each."""
    folder = stage.folder / "bundles"
    folder.mkdir(parents=True)
    marks = {marked(stage.bundle, folder, mark): mark for mark in (" (A)", " (B)")}
    link = folder / "current"
    point(link, next(iter(marks)))
    return link, [*marks], {bundle.name: mark for bundle, mark in marks.items()}


@row(
    "bundle-swapped", parts=SERVER, fault="bundles swapped to and fro by LoadRelease (--swaps of them)", no_errors=True
)
async def bundle_swapped(stage: Stage) -> None:
    link, bundles, marks = two_bundles(stage)
    stage.bundle = link
    store = await stage.valkey()
    replica = await stage.started(stage.replica("server", *TWO, store=store.url))
    async with stage.load(replica.address) as (load, fault), grpc.aio.insecure_channel(replica.address) as channel:
        load.traffic.marks.update(marks)
        resident = []
        for number in range(1, stage.options.swaps + 1):
            await swap(channel, replica, bundles[number % 2].name)
            resident.append(sum(map(resident_bytes, [replica.pid, *replica.children()])))
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)
        stage.expect(load.traffic.bundles >= set(marks), "not both bundles have answered")
    judge_memory(stage, resident)


@row(
    "processes-replaced",
    parts=SERVER,
    fault="SIGHUP, with the link at another bundle: all processes are replaced",
    no_errors=True,
)
async def processes_replaced(stage: Stage) -> None:
    link, bundles, marks = two_bundles(stage)
    stage.bundle = link
    store = await stage.valkey()
    replica = await stage.started(stage.replica("server", *TWO, store=store.url))
    async with stage.load(replica.address) as (load, fault):
        load.traffic.marks.update(marks)
        old = {*replica.children("front_end"), *replica.children("engine_host")}
        point(link, bundles[1])
        replica.send(signal.SIGHUP)
        await until(lambda: not old & {*replica.children()}, "the end of the old processes", SWAP_SECONDS)
        await until_whole(replica)
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)
        stage.expect(load.traffic.bundles >= set(marks), "not both bundles have answered")


async def swap(channel: grpc.aio.Channel, replica: Replica, version: str) -> None:
    """Returns when the engine host of the release before has ended."""
    request = LoadReleaseRequest(bundle=version)
    await ReleaseServiceStub(channel).LoadRelease(request, timeout=SWAP_SECONDS)
    await until(lambda: len(replica.children("engine_host")) == 1, "the end of the release before", SWAP_SECONDS)


def judge_memory(stage: Stage, resident: list[int]) -> None:
    if len(resident) < 3:
        return
    first, last = resident[1], resident[-1]
    growth = last / first - 1
    memory = f"{first >> 20} MiB after the second, {last >> 20} MiB after the last ({growth:+.1%})"
    stage.note(f"{len(resident)} swaps; resident memory {memory}")
    if len(resident) >= ENOUGH_SWAPS:
        stage.expect(growth < MOST_GROWTH, f"resident memory grew by {growth:.1%} over {len(resident)} swaps")
