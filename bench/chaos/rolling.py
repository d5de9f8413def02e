"""Replicas behind Envoy: killed, restarted and upgraded one by one, and bundles swapped, while clients see nothing of it."""

import asyncio
import os
import signal

from bench.chaos.rows import row
from bench.chaos.stage import DRAIN_DELAY_SECONDS, Stage, until_healthy

AFTER_SECONDS = 6.0
FLEET = "3 replicas behind Envoy, Valkey"


@row(
    "replica-killed", parts=FLEET, fault="SIGKILL of a replica and all of its processes; started again", no_errors=True
)
async def replica_killed(stage: Stage) -> None:
    store = await stage.valkey()
    replicas, envoy = await stage.fleet(store.url)
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
    "rolling-restart",
    parts=FLEET,
    fault=f"each replica in turn: SIGTERM, drain (STEERSMAN_DRAIN_DELAY_SECONDS={DRAIN_DELAY_SECONDS:g}), start",
    no_errors=True,
)
async def rolling_restart(stage: Stage) -> None:
    store = await stage.valkey()
    replicas, envoy = await stage.fleet(store.url)
    async with stage.load(envoy.address) as (_, fault):
        for replica in replicas:
            replica.send(signal.SIGTERM)
            await replica.gone()
            stage.expect(bool(replica.events("stopped")), f"{replica.folder.name} did not end by itself")
            await replica.start()
            await until_healthy(envoy, replicas)
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)
