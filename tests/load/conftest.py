"""A real server to load, and what a load test has to know of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman_loadtest.histories import Histories, read_histories
from steersman_loadtest.scenario import Scenario
from tests.load.proxy import Proxy
from tests.load.running import prepared
from tests.serving import Running, serving, settings_for


@pytest.fixture(scope="session")
def server(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Keeps fewer events of a session than the longest histories have."""
    with serving(settings_for(tmp_path_factory.mktemp("loaded"), bundle_dir, max_session_events=24)) as running:
        yield running


@pytest.fixture(scope="session")
def address(server: Running) -> str:
    return f"127.0.0.1:{server.ports.grpc}"


@pytest.fixture
def proxy(address: str) -> Iterator[Proxy]:
    """Before the server, honest until a test says otherwise."""
    with Proxy(address) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def histories(data_dir: Path) -> Histories:
    """The real ones, as far as a made-up world has any."""
    return read_histories(data_dir, seed=0)


@pytest.fixture(scope="session")
def scenario(address: str, histories: Histories) -> Scenario:
    """Of the honest server."""
    return prepared(address, histories)
