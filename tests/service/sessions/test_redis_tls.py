"""Debian's Redis: TLS with a client certificate, and a user whose rights are those that docs/runbook.md gives."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman.v1.feature_service_pb2 import Feature
from steersman.v1.scenario_service_pb2 import Scenario
from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.events import Kinds
from steersman_service.sessions.labels import Corrected, LabelStore
from steersman_service.sessions.reasons import reason_of
from steersman_service.sessions.scenarios import ScenarioStore
from steersman_service.sessions.store import SessionStore
from steersman_service.telemetry.metrics import Metrics
from tests.certificates import Authority
from tests.stores.nodes import REDIS, Node, closing_all, free_ports, server_options

pytestmark = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed: apt-get install redis-server")
RUNBOOK = Path(__file__).parents[3] / "docs" / "runbook.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    authority, other = Authority(folder), Authority(folder, "other")
    own, _, _ = authority.issue("server"), authority.issue("client"), other.issue("stranger")
    plain, secure = free_ports(2)
    options = server_options(plain) | {
        "tls-port": str(secure),
        "tls-cert-file": str(own.cert),
        "tls-key-file": str(own.key),
        "tls-ca-cert-file": str(authority.file),
        "tls-auth-clients": "yes",
    }
    with closing_all() as nodes:
        nodes.append(Node(folder / "server", plain, options, binary=str(REDIS)))
        nodes[0].ready()
        text = RUNBOOK.read_text("utf-8")
        told = text[text.index("An ACL user needs") : text.index("in a cluster `+cluster|slots")]
        # Redis 7.0 has no rules for some subcommands of CLIENT, and redis-py goes on without them.
        rights = re.findall(r"\+[a-z|]+", told)
        nodes[0].redis.acl_setuser("shop", enabled=True, passwords=["+p@ss"], keys=["steersman:*"], commands=rights)
        nodes[0].redis.acl_setuser("weak", enabled=True, passwords=["+p"], keys=["steersman:*"], commands=["+@read"])
        yield secure


def connect(url: str) -> SessionStore:
    return SessionStore(url, max_events=9, ttl_seconds=100.0, timeout_seconds=20.0, metrics=Metrics(), max_exposures=10)


async def test_all_that_is_kept_needs_no_further_right(folder: Path, port: int) -> None:
    files = f"ssl_ca_certs={folder}/ca.pem&ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key"
    store = connect(f"rediss://shop:p%40ss@127.0.0.1:{port}?{files}")
    assert await store.usable()
    events = [("e1", "i1"), ("e2", "i2"), ("e3", "i3"), ("e4", "i4")]
    await store.append("s", events, Kinds("cdhs", [0, 0, 0, 0]))
    assert await store.visit("s", [("e5", "i1")])
    await store.set_controls("s", [b"control"])
    scenarios, labels = ScenarioStore(store), LabelStore(store)
    await scenarios.put(Scenario(name="one"), "me")
    assert await scenarios.get("one")
    assert await scenarios.measured_names()
    assert (await scenarios.changes("", "", 9, 1 << 20)).changes
    assert await scenarios.delete("one", 0, "me")
    await labels.put(Corrected("v", 1), Feature(label="a label"))
    await labels.remove(Corrected("v", 1), [])
    assert await store.delete("s")
    await store.close()


@pytest.mark.parametrize(
    ("user", "files", "reason"),
    [
        ("shop:wrong@", "ssl_ca_certs={0}/ca.pem&ssl_certfile={0}/client.pem&ssl_keyfile={0}/client.key", "WRONGPASS"),
        ("weak:p@", "ssl_ca_certs={0}/ca.pem&ssl_certfile={0}/client.pem&ssl_keyfile={0}/client.key", "NOPERM"),
        ("shop:p%40ss@", "ssl_ca_certs={0}/other.pem", "TLS"),
        # A server tells that it refuses a client's certificate after the handshake, just before it closes.
        (
            "shop:p%40ss@",
            "ssl_ca_certs={0}/ca.pem&ssl_certfile={0}/stranger.pem&ssl_keyfile={0}/stranger.key",
            "TLS|CLOSED",
        ),
    ],
)
async def test_who_may_not_enter_is_told_why(folder: Path, port: int, user: str, files: str, reason: str) -> None:
    store = connect(f"rediss://{user}127.0.0.1:{port}?{files.format(folder)}")
    with pytest.raises(StoreUnavailable) as caught:
        await store.get("s")
    assert reason_of(caught.value.__cause__ or caught.value) in reason.split("|")
    await store.close()
    # TLS ends by words, too: of a connection that failed, redis-py does not wait for them, and this test's loop ends now.
    await asyncio.sleep(0.2)
