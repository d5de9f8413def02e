"""Random schedules of faults, by seed, for each kind of store."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.stores.cluster import Cluster, cluster
from tests.stores.nodes import Node, standalone, until
from tests.stores.sentinel import Watched, sentinels

Fault = Callable[[random.Random, str], None]
"""Blocks while it lasts. The second argument is a key of the session."""


class Store(NamedTuple):
    url: str
    mild: Mapping[str, Fault]
    """No server is replaced: nothing may be lost, or seen and then undone."""
    failovers: Mapping[str, Fault]
    heal: Callable[[], Any]
    """Waits until all servers are up and in step."""
    replicas: int
    """Of each primary."""


@contextlib.contextmanager
def opened(kind: str, folder: Path) -> Iterator[Store]:
    """`kind`: "standalone", "sentinel" or "cluster"."""
    if kind == "standalone":
        with standalone(folder) as node:
            yield _standalone(node)
    elif kind == "sentinel":
        with sentinels(folder, replicas=2) as watched:
            yield _watched(watched)
    else:
        with cluster(folder) as nodes:
            yield _clustered(nodes)


def _standalone(node: Node) -> Store:
    def restarted(random_: random.Random, key: str) -> None:
        node.kill()
        time.sleep(random_.random() / 2)
        node.start()
        node.ready()

    mild = _mild(lambda key: node)
    return Store(f"redis://{node.address}", {**mild, "killed and started again": restarted}, {}, node.ready, 0)


def _watched(watched: Watched) -> Store:
    def killed(random_: random.Random, key: str) -> None:
        watched.kill_and_fail_over().start()
        watched.healthy()

    def hung(random_: random.Random, key: str) -> None:
        primary = watched.primary()
        with _paused(primary):
            watched.replaced(primary)
        watched.healthy()

    def handed_over(random_: random.Random, key: str) -> None:
        primary = watched.primary()
        watched.sentinels[0].redis.execute_command("SENTINEL", "FAILOVER", "sessions")
        watched.replaced(primary)
        watched.healthy()

    failovers = {"primary killed": killed, "primary hangs": hung, "handed over": handed_over}
    mild = _mild(lambda key: watched.primary())
    return Store(watched.url, mild, failovers, watched.healthy, len(watched.servers) - 1)


def _clustered(nodes: Cluster) -> Store:
    def killed(random_: random.Random, key: str) -> None:
        primary = nodes.primary_of(key)
        nodes.kill_and_fail_over(primary)
        primary.start()
        nodes.healthy()

    def hung(random_: random.Random, key: str) -> None:
        primary = nodes.primary_of(key)
        with _paused(primary):
            until(lambda: nodes.primary_of(key) is not primary, "no one replaces it")
        nodes.healthy()

    def handed_over(random_: random.Random, key: str) -> None:
        primary = nodes.primary_of(key)
        replica = nodes.replicas_of(primary)[0]
        replica.redis.execute_command("CLUSTER", "FAILOVER")
        until(lambda: nodes.primary_of(key) is replica, "no one takes over")
        nodes.healthy()

    def moved(random_: random.Random, key: str) -> None:
        slot, source = key_slot(key.encode()), nodes.primary_of(key)
        target = random_.choice([node for node in nodes.primaries() if node is not source])
        nodes.move_slot(slot, target, stop_half_way=True)
        time.sleep(random_.random() / 10)
        nodes.move_slot(slot, target)

    failovers = {"primary killed": killed, "primary hangs": hung, "handed over": handed_over}
    mild = {**_mild(nodes.primary_of), "slot moved": moved}
    return Store(nodes.url, mild, failovers, nodes.healthy, 1)


def _mild(primary_of: Callable[[str], Node]) -> dict[str, Fault]:
    def flushed(random_: random.Random, key: str) -> None:
        primary_of(key).redis.function_flush()

    def disconnected(random_: random.Random, key: str) -> None:
        primary_of(key).redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def slow(random_: random.Random, key: str) -> None:
        with _paused(primary_of(key)):
            time.sleep(random_.random() / 10)

    def full(random_: random.Random, key: str) -> None:
        client = primary_of(key).redis
        client.config_set("maxmemory", "1")
        time.sleep(random_.random() / 10)
        client.config_set("maxmemory", "0")

    return {"functions flushed": flushed, "connections killed": disconnected, "slow": slow, "memory full": full}


@contextlib.contextmanager
def _paused(node: Node) -> Iterator[None]:
    node.pause()
    try:
        yield
    finally:
        node.resume()
        with contextlib.suppress(RedisError, OSError):
            node.redis.ping()
