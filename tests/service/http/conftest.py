"""A gateway in front of the real server of these tests."""

from collections.abc import Iterator

import pytest

from tests.service.http.gateways import Gateway, gatewayed
from tests.serving import Running


@pytest.fixture(scope="session")
def front(server: Running) -> Iterator[Gateway]:
    """Tests share it."""
    with gatewayed(f"127.0.0.1:{server.ports.grpc}") as running:
        yield running
