"""A store that dies, stands still, loses its connections, or has a full disk."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.chaos.parts import Replica, Valkey
from bench.chaos.proxy import Proxy
from bench.chaos.rows import row
from bench.chaos.stage import Skipped, Stage, paused

AFTER_SECONDS = 8.0
AWAY_SECONDS = 3.0
PAUSED_SECONDS = 5.0
# More than a row writes, and soon filled.
DISK_MB = 24
SERVER = "a server, Valkey with appendfsync always"


async def server(stage: Stage, store: str) -> Replica:
    made: Replica = await stage.started(stage.replica("server", "--workers", "1", "--engines", "0", store=store))
    return made


@row("store-killed", parts=SERVER, fault=f"SIGKILL of Valkey; started again after {AWAY_SECONDS:g} s")
async def store_killed(stage: Stage) -> None:
    store = await stage.valkey()
    replica = await server(stage, store.url)
    async with stage.load(replica.address) as (_, fault):
        await store.kill()
        await asyncio.sleep(AWAY_SECONDS)
        await store.start()
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "embedded-store-killed",
    parts="a server with its embedded Valkey",
    fault="SIGKILL of the Valkey; the supervisor starts it again",
)
async def embedded_store_killed(stage: Stage) -> None:
    replica = await stage.started(stage.replica("server", "--workers", "1", "--engines", "0", store=None))
    async with stage.load(replica.address) as (_, fault):
        os.kill(int((replica.folder / "data" / "valkey" / "valkey.pid").read_text()), signal.SIGKILL)
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)


@row("store-paused", parts=SERVER, fault=f"SIGSTOP of Valkey for {PAUSED_SECONDS:g} s")
async def store_paused(stage: Stage) -> None:
    store = await stage.valkey()
    replica = await server(stage, store.url)
    async with stage.load(replica.address) as (_, fault):
        await paused(store, PAUSED_SECONDS)
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "store-connections-reset",
    parts=f"{SERVER}, a TCP proxy between them",
    fault="the proxy resets every connection to the store, five times, one second apart",
)
async def store_connections_reset(stage: Stage) -> None:
    store = await stage.valkey()
    proxy = await stage.started(Proxy(store.port))
    replica = await server(stage, f"redis://{proxy.address}/0")
    async with stage.load(replica.address) as (_, fault):
        resets = 0
        for _ in range(5):
            resets += proxy.reset()
            await asyncio.sleep(1)
        fault.ends()
        stage.note(f"{resets} connections reset")
        stage.expect(resets >= 5, "the proxy had no connections to reset")
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "store-disk-full",
    parts=f"{SERVER}, its log on a disk of {DISK_MB} MB",
    fault=f"the disk is full for {PAUSED_SECONDS:g} s; Valkey, which ends then, is started again each second",
)
async def store_disk_full(stage: Stage) -> None:
    with small_disk(stage.folder / "disk") as disk:
        store = Valkey(disk / "valkey")
        store.log = stage.folder / "valkey.log"
        await store.start()
        try:
            replica = await server(stage, store.url)
            async with stage.load(replica.address) as (_, fault):
                fill(disk)
                for _ in range(round(PAUSED_SECONDS)):
                    await asyncio.sleep(1)
                    if not store.alive:
                        store.begin()
                stage.expect(store.starts > 1, "the disk was never full")
                (disk / "ballast").unlink()
                await store.kill()
                await store.start()
                fault.ends()
                await asyncio.sleep(AFTER_SECONDS)
        finally:
            await store.stop()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Raises Skipped where none can be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        raise Skipped("no tmpfs can be mounted here: it takes root, or a user namespace")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while ballast.write(bytes(size)):
                    pass
