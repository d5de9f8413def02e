"""One engine process that several call: each gets its own answers, whatever the others do. The rest: tests/e2e/test_serve_shared.py."""

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.bundle_pb2 import Manifest
from steersman_service.bundle.bundle import Bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Engine, Work
from steersman_service.errors import EngineLost, StartupError
from steersman_service.processes.engine_process import EngineProcess
from steersman_service.scheduling.engine_wire import LENGTH, Loaded, Outcome, Request, packed, receive
from steersman_service.scheduling.remote_engine import RemoteEngine
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics
from tests.service.engine.test_append import Conversations
from tests.service.engine.test_engine import assert_same, with_repeats, works
from tests.serving import settings_for

CLIENTS = 3
MAX_BATCH = 24
# Batches that are more than sockets hold, and so are their answers.
UNREAD = 60


def message_of(batch: Sequence[Work]) -> bytes:
    return packed([Request.of(work) for work in batch])


class Client:
    """Speaks as a worker does, and may stop in the middle."""

    def __init__(self, process: EngineProcess) -> None:
        self.connection = process.connect()
        self.loaded: Loaded = receive(self.connection)

    def send(self, batch: Sequence[Work]) -> None:
        self.connection.sendall(message_of(batch))

    def outcome(self) -> Outcome:
        outcome: Outcome = receive(self.connection)
        return outcome

    def expect(self, batch: Sequence[Work], beside: Engine) -> None:
        replies = self.outcome().replies
        assert not isinstance(replies, str), replies
        for work, reply in zip(batch, replies, strict=True):
            assert_same(reply.answer(), beside.run([work])[0], 1e-5)

    def ask(self, batch: Sequence[Work], beside: Engine) -> None:
        self.send(batch)
        self.expect(batch, beside)


class Shared:
    """The process, and the event loop of whoever started it."""

    def __init__(self, runner: asyncio.Runner, process: EngineProcess) -> None:
        self._runner = runner
        self.process = process

    def searches(self) -> float:
        """Batches computed so far, of requests without concepts."""
        self._runner.run(self.process.refresh())
        return sum(
            value
            for family in self.process.families
            for name, labels, value in family.samples
            if name == "steersman_inference_seconds_count" and labels["stage"] == "search"
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is sent meanwhile lies there all at once."""
        os.kill(self.process.pid, signal.SIGSTOP)
        yield
        os.kill(self.process.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    configure_logs("critical", "json")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


async def started(data: Path, bundle_dir: Path) -> EngineProcess:
    process = EngineProcess.start(settings_for(data, bundle_dir, engine="shared", max_batch=MAX_BATCH, workers=CLIENTS))
    await process.loaded()
    return process


@pytest.fixture(scope="module")
def shared(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory, runner: asyncio.Runner) -> Iterator[Shared]:
    process = runner.run(started(tmp_path_factory.mktemp("shared"), bundle_dir))
    yield Shared(runner, process)
    runner.run(process.close())
    assert process.ended.result() == 0


@pytest.fixture
def clients(shared: Shared) -> Iterator[list[Client]]:
    clients = [Client(shared.process) for _ in range(CLIENTS)]
    yield clients
    for client in clients:
        client.connection.close()


@pytest.fixture(scope="module")
def callers(shared: Shared, runner: asyncio.Runner, bundle: Bundle) -> Iterator[list[RemoteEngine]]:
    async def opened() -> RemoteEngine:
        return await RemoteEngine.open(shared.process.connect(), bundle, Metrics(), asyncio.Event())

    callers = [runner.run(opened()) for _ in range(CLIENTS)]
    yield callers
    for caller in callers:
        caller.close()


@pytest.fixture(scope="module")
def beside(bundle: Bundle) -> Engine:
    """Which keeps nothing."""
    return Engine(bundle, load_backend(bundle, "onnx", "cpu", 1))


def plain(bundle: Bundle, size: int, seed: int) -> list[Work]:
    """Without concepts."""
    return [
        work._replace(concepts_C=work.concepts_C[:0], concept_strengths_C=work.concept_strengths_C[:0])
        for work in works(bundle, size, seed, jumps=False)
    ]


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(1, 8), min_size=CLIENTS, max_size=CLIENTS))
def test_no_row_feels_those_of_others(shared: Shared, beside: Engine, seed: int, sizes: list[int]) -> None:
    """Batches of several, computed together, with the same histories under other controls: alone equals batched equals cached."""
    rng = np.random.default_rng(seed)
    batches = [with_repeats(works(beside.bundle, size, seed, jumps=False), rng) for size in sizes]
    clients = [Client(shared.process) for _ in sizes]
    for _ in range(2):
        with shared.paused():
            for client, batch in zip(clients, batches, strict=True):
                client.send(batch)
        for client, batch in zip(clients, batches, strict=True):
            client.expect(batch, beside)
    for client in clients:
        client.connection.close()


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_history_grows_whoever_asks(
    callers: list[RemoteEngine], runner: asyncio.Runner, beside: Engine, seed: int
) -> None:
    """Each turn comes by another caller, and finds what the one before left in the engine's caches."""
    conversations = Conversations(beside.bundle, np.random.default_rng(seed), 4)
    for turn in range(16):
        batch = conversations.batch()
        for work, answer in zip(batch, runner.run(callers[turn % CLIENTS].run(batch)), strict=True):
            assert_same(answer, beside.run([work])[0], 1e-5)


@pytest.mark.parametrize(("sizes", "batches"), [((8, 8, 8), 1), ((10, 10, 10), 2), ((MAX_BATCH, 1, 1), 2)])
def test_what_waits_is_computed_together_up_to_a_full_batch(
    shared: Shared, clients: list[Client], beside: Engine, sizes: tuple[int, ...], batches: int
) -> None:
    before = shared.searches()
    asked = [plain(beside.bundle, size, seed) for seed, size in enumerate(sizes)]
    with shared.paused():
        for client, batch in zip(clients, asked, strict=True):
            client.send(batch)
    for client, batch in zip(clients, asked, strict=True):
        client.expect(batch, beside)
    assert shared.searches() - before == batches


def test_two_batches_of_one_are_two(shared: Shared, clients: list[Client], beside: Engine) -> None:
    """Who sends its second one learns how long the first one took. Neither takes the other's place while it waits for a third."""
    before = shared.searches()
    full, first, second = (plain(beside.bundle, size, size) for size in (MAX_BATCH, 1, 2))
    with shared.paused():
        clients[0].send(full)
        clients[1].send(first)
        clients[1].send(second)
    clients[1].expect(first, beside)
    clients[1].expect(second, beside)
    clients[0].expect(full, beside)
    assert shared.searches() - before == 3


def test_a_batch_that_fails_fails_no_other(shared: Shared, clients: list[Client], beside: Engine) -> None:
    good = works(beside.bundle, 3, seed=3, jumps=False)
    bad = [good[0], good[1]._replace(ids_T=np.array([10**6]))]
    with shared.paused():
        for client, batch in zip(clients, (good, bad, good), strict=True):
            client.send(batch)
    clients[0].expect(good, beside)
    failed = clients[1].outcome().replies
    assert isinstance(failed, str)
    assert "Traceback" in failed
    clients[2].expect(good, beside)
    clients[1].ask(good, beside)


def test_half_a_message_keeps_nobody_waiting(clients: list[Client], beside: Engine) -> None:
    slow, other, third = clients
    batch = works(beside.bundle, 2, seed=5, jumps=False)
    message = message_of(batch)
    for cut in (2, LENGTH.size, len(message) // 2):
        slow.connection.sendall(message[:cut])
        other.ask(batch, beside)
        slow.connection.sendall(message[cut:])
        slow.expect(batch, beside)
    # Nor does one that is never finished.
    slow.connection.sendall(message[:-1])
    other.ask(batch, beside)
    slow.connection.close()
    other.ask(batch, beside)
    third.ask(batch, beside)


def test_what_is_no_message_ends_that_connection_alone(clients: list[Client], beside: Engine) -> None:
    batch = works(beside.bundle, 2, seed=6, jumps=False)
    for wrong, nonsense in zip(clients[1:], (LENGTH.pack(5) + b"hello", LENGTH.pack(0)), strict=True):
        wrong.connection.sendall(nonsense)
        assert wrong.connection.recv(1) == b""
        clients[0].ask(batch, beside)


def test_who_does_not_read_keeps_nobody_waiting(shared: Shared, clients: list[Client], beside: Engine) -> None:
    """Its answers are more than its socket holds: it gets all of them when it reads on, and meanwhile is asked for nothing."""
    idle, other, _ = clients
    batch = [work._replace(k=60, eligible_N=None) for work in plain(beside.bundle, MAX_BATCH, seed=7)]
    with ThreadPoolExecutor(1) as pool:
        sending = [pool.submit(idle.send, batch) for _ in range(UNREAD)]
        before, computed = shared.searches(), 0.0
        while computed != 1:
            other.ask(batch[:2], beside)
            computed, before = shared.searches() - before, shared.searches()
        assert not sending[-1].done()
        for _ in range(UNREAD):
            idle.expect(batch, beside)


def test_a_caller_that_has_gone_is_not_computed_for(shared: Shared, clients: list[Client], beside: Engine) -> None:
    before = shared.searches()
    with shared.paused():
        clients[0].send(plain(beside.bundle, MAX_BATCH, seed=8))  # no other fits beside it
        clients[0].connection.close()
    clients[1].ask(plain(beside.bundle, 2, seed=8), beside)
    assert shared.searches() - before == 1


async def test_it_lives_until_nobody_is_connected(bundle_dir: Path, tmp_path: Path, beside: Engine) -> None:
    configure_logs("critical", "json")
    process = await started(tmp_path, bundle_dir)
    clients = [Client(process) for _ in range(2)]
    closing = asyncio.create_task(process.close())
    batch = works(beside.bundle, 2, seed=9, jumps=False)
    for client in clients:
        await asyncio.to_thread(client.ask, batch, beside)
        assert not process.ended.done()
        client.connection.close()
    await closing
    assert process.ended.result() == 0


async def test_one_that_is_killed_is_lost_to_all(bundle_dir: Path, tmp_path: Path, bundle: Bundle) -> None:
    configure_logs("critical", "json")
    process = await started(tmp_path, bundle_dir)
    lost = [asyncio.Event() for _ in range(2)]
    callers = [await RemoteEngine.open(process.connect(), bundle, Metrics(), event) for event in lost]
    os.kill(process.pid, signal.SIGSTOP)
    batch = works(bundle, 2, seed=10)
    waiting = [asyncio.create_task(caller.run(batch)) for caller in callers]
    await asyncio.sleep(0)
    os.kill(process.pid, signal.SIGKILL)
    for task, event, caller in zip(waiting, lost, callers, strict=True):
        with pytest.raises(EngineLost):
            await task
        await event.wait()
        with pytest.raises(EngineLost):
            await caller.run(batch)
        caller.close()
    assert await process.ended == -9
    with pytest.raises(StartupError, match="has ended"):
        process.connect()
    await process.close()


async def test_another_bundle_than_the_engine_has_is_refused(shared: Shared, bundle: Bundle) -> None:
    manifest = Manifest()
    manifest.CopyFrom(bundle.manifest)
    manifest.version = "0" * 64
    with pytest.raises(StartupError, match="must not change"):
        await RemoteEngine.open(
            shared.process.connect(), replace(bundle, manifest=manifest), Metrics(), asyncio.Event()
        )
