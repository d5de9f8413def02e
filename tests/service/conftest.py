"""A real server with an embedded Valkey, started once a run."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.bundle.items import Items
from steersman_service.engine.engine import Engine
from tests.serving import Running, serving, settings_for


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


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Makes every batch wait: the first event tells that one has begun, the second lets it go on."""
    begun, go_on = threading.Event(), threading.Event()
    original: Callable[..., Any] = Engine.run

    def run(engine: Engine, batch: Any) -> Any:
        begun.set()
        go_on.wait(60)  # a test that failed must not keep the server from its end
        return original(engine, batch)

    monkeypatch.setattr("steersman_service.engine.loading._warm_up", lambda *arguments: None)
    monkeypatch.setattr(Engine, "run", run)
    yield begun, go_on
    go_on.set()
