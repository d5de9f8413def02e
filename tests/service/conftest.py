"""A real server with an embedded Valkey, started once a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving import Running, serving, settings_for

from steersman_service.bundle import Bundle, load_bundle
from steersman_service.items import Items


@pytest.fixture(scope="session")
def server(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serves the tiny bundle. Tests share it: each uses sessions of its own."""
    with serving(settings_for(tmp_path_factory.mktemp("server"), bundle_dir, max_session_events=24)) as running:
        yield running


@pytest.fixture(scope="session")
def bundle(bundle_dir: Path) -> Bundle:
    return load_bundle(bundle_dir, "onnx")


@pytest.fixture(scope="session")
def items(bundle: Bundle) -> Items:
    return Items(bundle.items)
