"""Primaries of a cluster, or watched by Sentinels, that die or stand still."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from bench.chaos.rows import row
from bench.chaos.stage import Stage
from tests.stores.cluster import NODE_TIMEOUT_MS, Cluster, cluster
from tests.stores.nodes import Node, until
from tests.stores.sentinel import DOWN_AFTER_MS, Watched, sentinels

AFTER_SECONDS = 8.0
AWAY_SECONDS = 6.0
CLUSTER = f"a server, a Valkey cluster of 3 primaries with a replica each (cluster-node-timeout {NODE_TIMEOUT_MS} ms)"
SENTINELS = f"a server, a Valkey with 2 replicas, 3 Sentinels (down after {DOWN_AFTER_MS} ms)"
KILLED = f"SIGKILL of a primary; started again {AWAY_SECONDS:g} s later"
PAUSED = f"SIGSTOP of a primary for {AWAY_SECONDS:g} s"
NOT_YET = "what the primary had acknowledged and not yet sent to a replica"
WAIT = ("--redis-wait-replicas", "1")
WAITED = "STEERSMAN_REDIS_WAIT_REPLICAS=1"


@dataclass
class Store:
    """A store with primaries that can be replaced."""

    made: AbstractContextManager[Any]
    primary: Callable[[Any], Node]
    """The one that is hurt."""
    replaced: Callable[[Any, Node], None]
    """Waits until another one has its place."""


def _cluster(stage: Stage) -> Store:
    # The last one: the first is asked who is primary.
    return Store(cluster(stage.folder / "cluster"), lambda made: made.primaries()[-1], _replaced_in_cluster)


def _replaced_in_cluster(made: Cluster, old: Node) -> None:
    until(lambda: old not in made.primaries(), "no one takes the slots of the primary")


def _sentinels(stage: Stage) -> Store:
    return Store(sentinels(stage.folder / "sentinel"), Watched.primary, Watched.replaced)


async def _failover(stage: Stage, store: Store, *flags: str, paused: bool = False) -> None:
    """A primary is killed, or paused; the fault is over when another one has taken its place. The old one comes back as its replica."""
    made: Any = await stage.entered(store.made)
    replica = await stage.started(stage.replica("server", "--workers", "1", "--engines", "0", *flags, store=made.url))
    async with stage.load(replica.address) as (load, fault):
        old = store.primary(made)
        start = load.now
        old.pause() if paused else old.kill()
        await asyncio.to_thread(store.replaced, made, old)
        fault.ends()
        stage.note(f"another primary after {load.now - start:.1f} s")
        await asyncio.sleep(max(0.0, AWAY_SECONDS - (load.now - start)))
        old.resume() if paused else old.start()
        await asyncio.sleep(AFTER_SECONDS)


@row("cluster-primary-killed", parts=CLUSTER, fault=KILLED, may_lose=NOT_YET)
async def cluster_primary_killed(stage: Stage) -> None:
    await _failover(stage, _cluster(stage))


@row("cluster-primary-paused", parts=CLUSTER, fault=PAUSED, may_lose=NOT_YET)
async def cluster_primary_paused(stage: Stage) -> None:
    await _failover(stage, _cluster(stage), paused=True)


@row("cluster-primary-killed-wait", parts=f"{CLUSTER}, {WAITED}", fault=KILLED)
async def cluster_primary_killed_wait(stage: Stage) -> None:
    await _failover(stage, _cluster(stage), *WAIT)


@row("sentinel-primary-killed", parts=SENTINELS, fault=KILLED, may_lose=NOT_YET)
async def sentinel_primary_killed(stage: Stage) -> None:
    await _failover(stage, _sentinels(stage))


@row("sentinel-primary-paused-wait", parts=f"{SENTINELS}, {WAITED}", fault=PAUSED)
async def sentinel_primary_paused_wait(stage: Stage) -> None:
    await _failover(stage, _sentinels(stage), *WAIT, paused=True)
