"""A primary with replicas, watched by Sentinels, on loopback."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from tests.stores.nodes import VALKEY, Node, closing_all, free_ports, server_options, until

SERVICE = "sessions"
DOWN_AFTER_MS = 300
"""A primary that does not answer for so long is replaced."""


class Watched:
    """The servers, and the Sentinels that watch them."""

    def __init__(self, servers: list[Node], sentinels: list[Node]) -> None:
        self.servers, self.sentinels = servers, sentinels

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(node.address for node in self.sentinels)}/{SERVICE}"

    def primary(self) -> Node:
        """As the Sentinels see it."""
        for sentinel in self.sentinels:
            with contextlib.suppress(RedisError, OSError):
                found: Any = sentinel.redis.sentinel_get_master_addr_by_name(SERVICE)
                return next(node for node in self.servers if node.port == found[1])
        raise AssertionError("no Sentinel answers")

    def healthy(self) -> None:
        """Waits until all servers answer, and the replicas are in step with one primary, that all Sentinels name."""
        until(self._is_well, "servers and Sentinels do not agree", 60.0)

    def _is_well(self) -> bool:
        told: list[dict[str, Any]] = [node.redis.info("replication") for node in self.servers]
        primaries = [node for node, each in zip(self.servers, told, strict=True) if each["role"] == "master"]
        named = {sentinel.redis.sentinel_get_master_addr_by_name(SERVICE)[1] for sentinel in self.sentinels}
        known: list[dict[str, Any]] = [sentinel.redis.sentinel_master(SERVICE) for sentinel in self.sentinels]
        return (
            # Two at a time, each named by somebody, are not.
            len(primaries) == 1
            and named == {primaries[0].port}
            and all(each["master_link_status"] == "up" for each in told if each["role"] == "slave")
            and all(each["num-other-sentinels"] == len(self.sentinels) - 1 for each in known)
            and all(each["num-slaves"] == len(self.servers) - 1 for each in known)
        )

    def kill_and_fail_over(self) -> Node:
        """Kills the primary, and waits until another one is named. Gives the killed one, whose process stays down."""
        killed = self.primary()
        killed.kill()
        self.replaced(killed)
        return killed

    def replaced(self, old: Node) -> None:
        """Waits until a Sentinel names another primary, and that one takes writes."""

        def another() -> bool:
            primary = self.primary()
            told: dict[str, Any] = primary.redis.info("replication")
            return primary is not old and told["role"] == "master"

        until(another, f"no one replaces {old.address}", 60.0)


@contextlib.contextmanager
def sentinels(
    folder: Path,
    *,
    replicas: int = 2,
    watchers: int = 3,
    down_after_ms: int = DOWN_AFTER_MS,
    options: Mapping[str, str] | None = None,
    binary: str = VALKEY,
) -> Iterator[Watched]:
    """A primary, its replicas and Sentinels, in agreement. `options` are further ones of the servers' configuration."""
    ports = free_ports(1 + replicas + watchers)
    primary, own, watching = ports[0], ports[: 1 + replicas], ports[1 + replicas :]
    with closing_all() as nodes:
        for port in own:
            follows = {} if port == primary else {"replicaof": f"127.0.0.1 {primary}"}
            configured = server_options(port) | follows | dict(options or {})
            nodes.append(Node(folder / str(port), port, configured, binary=binary))
        servers = list(nodes)
        for node in servers:
            node.ready()
        for port in watching:
            home = folder / str(port)
            home.mkdir(parents=True)
            # A Sentinel writes what it learns into its own file.
            (home / "sentinel.conf").write_text(
                f"port {port}\nbind 127.0.0.1\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary} {watchers // 2 + 1}\n"
                f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}\n"
                f"sentinel failover-timeout {SERVICE} {4 * down_after_ms}\n"
                f"sentinel parallel-syncs {SERVICE} 2\n"
            )
            started = Node(
                home, port, {}, binary=binary, arguments=["sentinel.conf", "--sentinel"], client={"socket_timeout": 0.2}
            )
            nodes.append(started)
        watchers_started = nodes[len(servers) :]
        for node in watchers_started:
            node.ready()
        made = Watched(servers, watchers_started)
        made.healthy()
        yield made
