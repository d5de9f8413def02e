"""Replicas behind Envoy: killed, restarted and upgraded one by one, while clients see nothing of it."""

import asyncio
import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from bench.chaos.bundles import marked
from bench.chaos.parts import ROOT, Envoy, Replica
from bench.chaos.rows import row
from bench.chaos.stage import DRAIN_DELAY_SECONDS, Stage, until_healthy
from tests.stores.cluster import cluster

AFTER_SECONDS = 6.0
HUNG_SECONDS = 8.0
# Until clients have found a replica again: what they wait between two attempts, and more.
CONNECT_SECONDS = 2.0
FLEET = "3 replicas behind Envoy, a Valkey cluster of 6 nodes"


@row(
    "replica-killed", parts=FLEET, fault="SIGKILL of a replica and all of its processes; started again", no_errors=True
)
async def replica_killed(stage: Stage) -> None:
    store = await stage.entered(cluster(stage.folder / "cluster"))
    replicas = await stage.replicas(store.url)
    envoy = await stage.envoy(replicas)
    async with stage.load(envoy.address) as (_, fault):
        dying = replicas[0]
        for pid in dying.children():
            os.kill(pid, signal.SIGKILL)
        await dying.kill()
        fault.ends()
        await dying.start()
        await until_healthy(envoy, replicas)
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "replica-hung",
    parts=FLEET,
    fault=f"SIGSTOP of a replica and all of its processes for {HUNG_SECONDS:g} s, as of a machine that stands still",
    no_errors=True,
)
async def replica_hung(stage: Stage) -> None:
    store = await stage.entered(cluster(stage.folder / "cluster"))
    replicas = await stage.replicas(store.url)
    envoy = await stage.envoy(replicas)
    async with stage.load(envoy.address) as (_, fault):
        pids = [replicas[0].pid, *replicas[0].children()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(HUNG_SECONDS)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
        fault.ends()
        await until_healthy(envoy, replicas)
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "rolling-restart",
    parts=FLEET,
    fault=f"each replica in turn: SIGTERM, drain (STEERSMAN_DRAIN_DELAY_SECONDS={DRAIN_DELAY_SECONDS:g}), start",
    no_errors=True,
)
async def rolling_restart(stage: Stage) -> None:
    store = await stage.entered(cluster(stage.folder / "cluster"))
    replicas = await stage.replicas(store.url)
    envoy = await stage.envoy(replicas)
    async with stage.load(envoy.address) as (_, fault):
        await one_by_one(stage, replicas, envoy)
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "rolling-upgrade",
    parts=FLEET,
    fault="each replica in turn: SIGTERM, drain, start with the code of this checkout and another bundle",
    no_errors=True,
)
async def rolling_upgrade(stage: Stage) -> None:
    bundles = {mark: marked(stage.bundle, stage.folder, mark) for mark in (" (old)", " (new)")}
    old, new = bundles.values()
    stage.bundle = old
    before = checked_out(stage.options.before, stage.folder / "before") if stage.options.before else None
    stage.note(f"from {stage.options.before}" if before else "both of the same code: --before REF takes another")
    store = await stage.entered(cluster(stage.folder / "cluster"))
    replicas = await stage.replicas(store.url, code=before)
    envoy = await stage.envoy(replicas)
    async with stage.load(envoy.address) as (load, fault):
        load.traffic.marks.update({folder.name: mark for mark, folder in bundles.items()})
        for replica in replicas:
            replica.bundle = new
            replica.run_code(None)
        await one_by_one(stage, replicas, envoy)
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)
        stage.expect(load.traffic.bundles >= {old.name, new.name}, "not both bundles have answered")


@row(
    "rolling-restart-without-proxy",
    parts="3 replicas, a Valkey cluster of 6 nodes; clients know the three addresses, with the policy round_robin",
    fault="each replica in turn: SIGTERM, drain, start",
    no_errors=True,
)
async def rolling_restart_without_proxy(stage: Stage) -> None:
    store = await stage.entered(cluster(stage.folder / "cluster"))
    replicas = await stage.replicas(store.url)
    every = f"ipv4:{','.join(replica.address for replica in replicas)}"
    async with stage.load(every) as (_, fault):
        await one_by_one(stage, replicas, None)
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)


async def one_by_one(stage: Stage, replicas: Sequence[Replica], envoy: Envoy | None) -> None:
    """Each is stopped, and started again as it is set up now, once the one before takes calls again."""
    for replica in replicas:
        replica.send(signal.SIGTERM)
        await replica.gone()
        stage.expect(bool(replica.events("stopped")), f"{replica.folder.name} did not end by itself")
        await replica.start()
        if envoy:
            await until_healthy(envoy, replicas)
        else:
            await asyncio.sleep(CONNECT_SECONDS)


def checked_out(ref: str, folder: Path) -> Path:
    """The files of a commit."""
    archive = subprocess.run(["git", "archive", ref, "service", "proto"], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder
