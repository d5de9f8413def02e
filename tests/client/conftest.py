"""A real server, the clients that ask it, and the same bundle in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman_client import Client, LocalClient, load
from tests.client.fake import FakeServer
from tests.serving import Running, serving, settings_for


@pytest.fixture(scope="session")
def server(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(settings_for(tmp_path_factory.mktemp("asked"), bundle_dir)) as running:
        yield running


@pytest.fixture(scope="session")
def address(server: Running) -> str:
    return f"127.0.0.1:{server.ports.grpc}"


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[Client]:
    with Client(address, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def local(bundle_dir: Path) -> Iterator[LocalClient]:
    with load(bundle_dir) as local:
        yield local


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake
