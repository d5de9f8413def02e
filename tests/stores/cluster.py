"""A cluster on loopback: primaries with replicas, faults, and slots that move."""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.stores.nodes import VALKEY, Node, closing_all, free_ports, server_options, until

SLOTS = 16384
NODE_TIMEOUT_MS = 1000
"""A primary that does not answer for so long is replaced."""


class Cluster:
    """Nodes of one cluster; who is primary may change."""

    def __init__(self, nodes: list[Node], primaries: int) -> None:
        self.nodes = nodes
        self.first_primaries = nodes[:primaries]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)

    def primaries(self) -> list[Node]:
        """As the nodes that answer see them, in the order of their slots."""
        owners = sorted((first, port) for first, _, port in self._ranges())
        ports = dict.fromkeys(port for _, port in owners)
        return [node for port in ports for node in self.nodes if node.port == port]

    def primary_of(self, key: str) -> Node:
        slot = key_slot(key.encode())
        port = next(port for first, last, port in self._ranges() if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def replicas_of(self, primary: Node) -> list[Node]:
        """That answer."""
        found = []
        for node in self.nodes:
            with contextlib.suppress(RedisError, OSError):
                told: dict[str, Any] = node.redis.info("replication")
                if told["role"] == "slave" and told["master_port"] == primary.port:
                    found.append(node)
        return found

    def healthy(self) -> None:
        """Waits until every node answers, all see all slots covered, and each replica is in step."""
        for node in self.nodes:
            until(partial(_is_well, node), f"node {node.address} does not join")

    def kill_and_fail_over(self, primary: Node) -> None:
        """Kills a primary, and waits until another one has its slots. Its process stays down."""
        primary.kill()
        others = [node for node in self.nodes if node is not primary]

        def replaced() -> bool:
            ports = {port for _, _, port in self._ranges(others)}
            return primary.port not in ports and all(
                node.redis.cluster("INFO")["cluster_state"] == "ok" for node in others
            )

        until(replaced, f"no one replaces {primary.address}")

    def move_slot(self, slot: int, target: Node, *, stop_half_way: bool = False) -> None:
        """As a resharding tool does, key by key. With `stop_half_way` the slot stays open: half of its keys are there, half here."""
        port = next(port for first, last, port in self._ranges() if first <= slot <= last)
        source = next(node for node in self.nodes if node.port == port)
        if source is target:
            return
        ids = {node.port: node.redis.execute_command("CLUSTER MYID") for node in (source, target)}
        target.redis.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source.port])
        source.redis.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target.port])
        keys = source.redis.execute_command("CLUSTER GETKEYSINSLOT", slot, 100_000)
        moved = keys[: len(keys) // 2] if stop_half_way else keys
        if moved:
            source.redis.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *moved)
        if not stop_half_way:
            for node in (target, source, *self.primaries()):
                node.redis.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target.port])

    def _ranges(self, nodes: list[Node] | None = None) -> list[tuple[int, int, int]]:
        """First slot, last slot, and port of the primary, as the first node that answers sees it."""
        for node in nodes or self.nodes:
            with contextlib.suppress(RedisError, OSError):
                slots: Any = node.redis.execute_command("CLUSTER", "SLOTS")
                return [(first, last, owner[1]) for first, last, owner, *_ in slots]
        raise AssertionError("no node of the cluster answers")


def _is_well(node: Node) -> bool:
    if node.redis.cluster("INFO")["cluster_state"] != "ok":
        return False
    told: dict[str, Any] = node.redis.info("replication")
    return bool(told["role"] == "master" or told["master_link_status"] == "up")


@contextlib.contextmanager
def cluster(
    folder: Path,
    *,
    primaries: int = 3,
    replicas: int = 1,
    node_timeout_ms: int = NODE_TIMEOUT_MS,
    options: Mapping[str, str] | None = None,
    binary: str = VALKEY,
    client: Mapping[str, Any] | None = None,
) -> Iterator[Cluster]:
    """A healthy cluster of `primaries` * (1 + `replicas`) nodes in `folder`. `options` are further ones of the configuration."""
    count = primaries * (1 + replicas)
    ports = free_ports(2 * count)
    own, buses = ports[:count], ports[count:]
    with closing_all() as nodes:
        for port, bus in zip(own, buses, strict=True):
            configured = server_options(port) | {
                "cluster-enabled": "yes",
                "cluster-port": str(bus),
                "cluster-node-timeout": str(node_timeout_ms),
                "cluster-replica-validity-factor": "0",
                "cluster-migration-barrier": "999",
                **(options or {}),
            }
            nodes.append(Node(folder / str(port), port, configured, binary=binary, client=client))
        for node in nodes:
            node.ready()
        made = Cluster(nodes, primaries)
        _join(nodes, buses, primaries)
        made.healthy()
        yield made


def _join(nodes: list[Node], buses: list[int], primaries: int) -> None:
    for place, node in enumerate(nodes):
        node.redis.execute_command("CLUSTER SET-CONFIG-EPOCH", place + 1)
        if place < primaries:
            first, last = SLOTS * place // primaries, SLOTS * (place + 1) // primaries - 1
            node.redis.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        if place:
            node.redis.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, buses[0])
    for place, node in enumerate(nodes[primaries:]):
        primary = nodes[place % primaries].redis.execute_command("CLUSTER MYID")
        until(partial(node.redis.execute_command, "CLUSTER REPLICATE", primary), "a node does not learn of its primary")
    for node in nodes:
        until(partial(_knows, node, len(nodes)), "a node does not learn of all others")


def _knows(node: Node, count: int) -> bool:
    return int(node.redis.cluster("INFO")["cluster_known_nodes"]) == count
