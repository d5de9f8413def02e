"""What a server that ends in the middle of a change leaves running: nothing. The rest: tests/e2e/test_serve_swaps.py."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from steersman_service.errors import StartupError
from steersman_service.processes.bundle_source import BundleSource
from steersman_service.processes.generation import HostedRelease
from steersman_service.processes.releases import Releases
from steersman_service.telemetry.metrics import Metrics
from tests.service.bundle.made import made


class Engine:
    """The place of one, which ends only if it is killed."""

    ready = True
    child = None

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def load(self) -> None: ...

    async def listen(self) -> None: ...

    async def stop(self, drain_seconds: float) -> None:
        await self.ended.wait()

    async def kill(self) -> None:
        self.ended.set()


class Front:
    """A generation whose front ends follow, drain and load when they are let."""

    def __init__(self, stable: HostedRelease) -> None:
        self.stable, self.canary, self.share = stable, None, 0.0
        self.front_ends: list[Any] = []
        self.may_go, self.asked = asyncio.Event(), asyncio.Event()
        self.drained = False

    async def load(self) -> None: ...

    async def listen(self) -> None: ...

    async def try_out(self, release: HostedRelease) -> None: ...

    async def route(self, stable: HostedRelease, canary: Any = None, share: float = 0.0) -> None:
        self.stable, self.canary, self.share = stable, canary, share
        self.asked.set()
        await self.may_go.wait()

    async def stop(self, drain_seconds: float) -> None:
        self.asked.set()
        await self.may_go.wait()
        self.drained = True


def hosted(folder: Path) -> HostedRelease:
    engine: Any = Engine()
    return HostedRelease(1, folder, [], [engine])


def releases_of(front: Front, folder: Path) -> Releases:
    generation: Any = front
    source = BundleSource(str(folder), folder)
    return Releases(generation, hosted, source, Metrics(collected=False), drain_seconds=60, on_trial=False)


async def cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_engines_of_what_a_swap_replaced(tmp_path: Path) -> None:
    for name in "ab":
        made(tmp_path / name, created=name)
    before = hosted(tmp_path / "a")
    front = Front(before)
    releases = releases_of(front, tmp_path / "a")

    async def named() -> Path:
        return tmp_path / "b"

    swapping = asyncio.create_task(releases.follow(tmp_path / "b", named))
    await front.asked.wait()
    await cancelled(swapping)
    front.may_go.set()
    await releases.stop(0)
    (engine,) = before.engines
    assert isinstance(engine, Engine)
    assert engine.ended.is_set()


async def test_a_generation_that_still_drains(tmp_path: Path) -> None:
    old, new = Front(hosted(tmp_path)), Front(hosted(tmp_path))
    new.may_go.set()
    releases = releases_of(old, tmp_path)

    async def renewed() -> Any:
        return new

    renewing = asyncio.create_task(releases.renew(renewed))
    await old.asked.wait()
    await cancelled(renewing)
    old.may_go.set()
    await releases.stop(0)
    assert (old.drained, new.drained) == (True, True)


async def test_an_engine_that_loads_beside_one_that_is_refused(tmp_path: Path) -> None:
    refused, loading = Engine(), Engine()
    starts: list[str] = []

    async def refuse() -> None:
        raise StartupError("bundle refused")

    async def load() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        starts.append("it would be kept from now on")

    refused.load, loading.load = refuse, load  # type: ignore[method-assign]
    engines: Any = [refused, loading]
    with pytest.raises(StartupError):
        await HostedRelease(1, tmp_path, [], engines).load()
    for _ in range(10):
        await asyncio.sleep(0)
    assert starts == []
