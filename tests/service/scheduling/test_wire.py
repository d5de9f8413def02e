"""Front ends and an engine host over a real Unix socket: results, refusals, cancellation and losses cross it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_service.engine.request import Account, AccountQuery, Edits, EngineRequest, EngineResult, Variant
from steersman_service.errors import DeadlinePassed, DeadlineTooNear, Draining, EngineLost, QueueFull, StartupError
from steersman_service.scheduling import client
from steersman_service.scheduling.batcher import Batcher
from steersman_service.scheduling.client import EnginePool
from steersman_service.scheduling.frames import FrameReader, frame
from steersman_service.scheduling.host import EngineHost
from steersman_service.scheduling.wire import Cancel, Failure, Hello, Result, Submit, ToEngine, to_engine
from tests.service.scheduling.test_batcher import MAX_BATCH, QUEUE_SIZE, GatedEngine, in_seconds, settle, work

HELLO = Hello("version", "onnx", "cpu")


class Host:
    """An engine host in this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = GatedEngine()
        self.batcher = Batcher(self.engine, queue_size=QUEUE_SIZE, max_batch=MAX_BATCH)
        self.server = EngineHost(self.batcher, HELLO)

    async def close(self) -> None:
        self.engine.release(1000)
        await self.server.close(0)


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[list[Host]]:
    made = [Host(tmp_path / name) for name in ("first", "second")]
    for host in made:
        await host.server.listen(host.path)
    yield made
    for host in made:
        await host.close()


@pytest.fixture
async def pool(hosts: list[Host]) -> AsyncIterator[EnginePool]:
    """Of the first host alone."""
    pool = EnginePool([hosts[0].path])
    assert await pool.connect("version") == HELLO
    yield pool
    pool.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.001)
            if condition():
                return


async def test_requests_that_are_ready_together_are_one_batch(hosts: list[Host], pool: EnginePool) -> None:
    engine = hosts[0].engine
    calls = [asyncio.create_task(pool.submit(work(k))) for k in range(MAX_BATCH)]
    await engine.computing()
    engine.release()
    assert [result.rows_K.tolist() for result in await asyncio.gather(*calls)] == [[k] for k in range(MAX_BATCH)]
    assert engine.batches == [[*range(MAX_BATCH)]]


async def test_refusals_cross_at_once_while_the_engine_computes(hosts: list[Host], pool: EnginePool) -> None:
    first = asyncio.create_task(pool.submit(work(0)))
    await hosts[0].engine.computing()
    waiting = [asyncio.create_task(pool.submit(work(k), tenant="a")) for k in range(QUEUE_SIZE - 1)]
    expired = asyncio.create_task(pool.submit(work(90), in_seconds(0.3), "a"))
    await until(lambda: hosts[0].batcher.depth == QUEUE_SIZE)
    async with asyncio.timeout(60):
        with pytest.raises(QueueFull) as full:
            await pool.submit(work(99), tenant="a")
    assert full.value.retry_seconds
    await asyncio.sleep(0.4)
    hosts[0].engine.release(100)
    await asyncio.gather(first, *waiting)
    with pytest.raises(DeadlinePassed):
        await expired


async def test_front_ends_are_told_how_long_a_request_would_wait(hosts: list[Host], pool: EnginePool) -> None:
    assert pool.wait_seconds == 0
    engine = hosts[0].engine
    calls = [asyncio.create_task(pool.submit(work(0)))]
    await engine.computing()
    calls += [asyncio.create_task(pool.submit(work(k))) for k in range(QUEUE_SIZE)]
    await until(lambda: hosts[0].batcher.depth == QUEUE_SIZE)
    await asyncio.sleep(0.1)  # so long a batch takes from now on, as the host learns
    engine.release()
    await until(lambda: pool.wait_seconds > 0.01)
    engine.release(1000)
    await asyncio.gather(*calls)
    await until(lambda: pool.wait_seconds == 0)


async def test_a_caller_that_has_gone_leaves_the_queue_of_the_host(hosts: list[Host], pool: EnginePool) -> None:
    first = asyncio.create_task(pool.submit(work(0)))
    await hosts[0].engine.computing()
    gone, kept = asyncio.create_task(pool.submit(work(1))), asyncio.create_task(pool.submit(work(2)))
    await until(lambda: hosts[0].batcher.depth == 2)
    gone.cancel()
    await until(lambda: hosts[0].batcher.depth == 1)
    hosts[0].engine.release(2)
    await asyncio.gather(first, kept)
    assert hosts[0].engine.batches == [[0], [2]]


async def test_a_front_end_that_has_gone_takes_its_requests_along(hosts: list[Host], pool: EnginePool) -> None:
    other = EnginePool([hosts[0].path])
    await other.connect("version")
    first = asyncio.create_task(pool.submit(work(0)))
    await hosts[0].engine.computing()
    lost = [asyncio.create_task(other.submit(work(k))) for k in (1, 2)]
    await until(lambda: hosts[0].batcher.depth == 2)
    other.close()
    await until(lambda: hosts[0].batcher.depth == 0)
    for call in lost:
        with pytest.raises(EngineLost):
            await call
    hosts[0].engine.release()
    await first


async def test_an_error_of_the_engine_is_its_requests_alone(hosts: list[Host], pool: EnginePool) -> None:
    hosts[0].engine.release(100)
    bad, good = await asyncio.gather(pool.submit(work(-1)), pool.submit(work(1)), return_exceptions=True)
    assert isinstance(bad, RuntimeError)
    assert "broken" in str(bad)
    assert isinstance(good, EngineResult)


async def test_spare_requests_are_for_an_idle_engine(hosts: list[Host], pool: EnginePool) -> None:
    spare = asyncio.create_task(pool.spare(work(1)))
    await hosts[0].engine.computing()
    assert await pool.spare(work(2)) is None
    hosts[0].engine.release()
    result = await spare
    assert result
    assert result.rows_K == [1]


async def test_a_drain_crosses(hosts: list[Host], pool: EnginePool) -> None:
    hosts[0].engine.release(100)
    await hosts[0].batcher.close()
    with pytest.raises(Draining):
        await pool.submit(work(1))


async def test_a_lost_engine_fails_what_waits_and_is_found_again(
    hosts: list[Host], pool: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "OTHER_BUNDLE_SECONDS", 0.001)
    call = asyncio.create_task(pool.submit(work(0)))
    await hosts[0].engine.computing()
    hosts[0].engine.release(100)
    await hosts[0].server.close(0)
    assert not hosts[0].path.exists()
    with pytest.raises(EngineLost):
        await call
    assert not pool.alive
    with pytest.raises(EngineLost):
        await pool.submit(work(1))
    # One that has read another bundle from the same folder meanwhile is none of the pool's.
    other, entered = Host(hosts[0].path), list[object]()
    other.server.hello = Hello("another", "onnx", "cpu")
    monkeypatch.setattr(other.server, "entered", entered.append)
    await other.server.listen(other.path)
    await until(lambda: len(entered) > 2)
    assert not pool.alive
    await other.close()
    again = Host(hosts[0].path)
    again.engine.release(100)
    await again.server.listen(again.path)
    await until(lambda: pool.alive)
    assert (await pool.submit(work(2))).rows_K == [2]
    await again.close()


async def test_sessions_keep_to_their_engine_and_others_go_to_the_least_loaded(hosts: list[Host]) -> None:
    pool = EnginePool([host.path for host in hosts])
    await pool.connect("version")
    for host in hosts:
        host.engine.release(1000)
    for _ in range(3):
        for session in range(40):
            await pool.submit(work(session), session=f"session-{session}")
    where = [{k for batch in host.engine.batches for k in batch} for host in hosts]
    assert where[0] | where[1] == set(range(40))
    assert not where[0] & where[1]
    assert min(map(len, where)) > 8, "sessions spread"
    for host in hosts:
        host.engine.batches.clear()
        while host.engine.gate.acquire(blocking=False):
            pass
    calls = [asyncio.create_task(pool.submit(work(k))) for k in range(6)]
    await until(lambda: all(host.engine.batches for host in hosts))
    for host in hosts:
        host.engine.release(1000)
    await asyncio.gather(*calls)
    assert [sum(map(len, host.engine.batches)) for host in hosts] == [3, 3]
    # While one is gone its sessions are answered by the other.
    os.remove(hosts[0].path)
    await hosts[0].server.close(0)
    await until(lambda: sum(client.hello is not None for client in pool._clients) == 1)
    for session in range(40):
        assert (await pool.submit(work(session), session=f"session-{session}")).rows_K == [session]
    pool.close()


async def test_another_bundle_is_refused(hosts: list[Host]) -> None:
    pool = EnginePool([hosts[0].path])
    with pytest.raises(StartupError, match="must not change while it is served"):
        await pool.connect("another")
    pool.close()


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\1\xc1", frame([Hello("not", "for", "it")]), frame([Cancel(7)])[:-1] + b"\xc1"]
)
async def test_a_malformed_frame_ends_its_connection_alone(hosts: list[Host], pool: EnginePool, garbage: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(hosts[0].path)
    writer.write(garbage)
    async with asyncio.timeout(60):
        while await reader.read(1 << 16):
            pass
    writer.close()
    hosts[0].engine.release()
    assert (await pool.submit(work(1))).rows_K == [1]


async def test_half_a_frame_keeps_no_other_front_end_waiting(hosts: list[Host], pool: EnginePool) -> None:
    _, writer = await asyncio.open_unix_connection(hosts[0].path)
    writer.write(frame([Submit.of(1, work(1), float("inf"), "", False)])[:-5])
    await settle()
    hosts[0].engine.release()
    assert (await pool.submit(work(2))).rows_K == [2]
    writer.close()


@given(st.lists(st.lists(st.integers(0, 2**40), max_size=5), max_size=6), st.lists(st.integers(0, 200), max_size=8))
def test_frames_are_found_wherever_the_stream_is_cut(frames: list[list[int]], cuts: list[int]) -> None:
    stream = b"".join(frame([Cancel(number) for number in numbers]) for numbers in frames)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader: FrameReader[ToEngine] = FrameReader(to_engine)
    found = [m for begin, end in pairwise(places) for m in reader.messages(stream[begin:end])]
    assert found == [Cancel(number) for numbers in frames for number in numbers]


def test_everything_of_a_request_and_of_a_result_crosses() -> None:
    random = np.random.default_rng(0)
    edits = Edits(np.arange(3), random.normal(size=3).astype(np.float32), random.normal(size=3).astype(np.float32))
    request = EngineRequest(
        ids_T=random.integers(0, 1000, 20),
        edits=edits,
        concepts_C=np.array([4, 1]),
        concept_strengths_C=np.array([0.5, -2], np.float32),
        eligible_N=random.random(50) < 0.5,
        k=7,
        tilts_N=random.normal(size=50).astype(np.float32),
        excluded_X=np.array([3, 9]),
        grows=True,
        account=AccountQuery(np.array([5, 2]), np.array([0, 0, 1]), 2, 3),
        divergence=True,
    )
    other = Variant(edits, np.array([2]), np.array([0.25], np.float32), random.normal(size=50).astype(np.float32))
    request = request._replace(variants=[Variant(), other])
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(Submit.of(1, request, 12.5, "tenant", False)), type=Submit)
    assert (sent.number, sent.deadline, sent.tenant) == (1, 12.5, "tenant")
    assert_same(sent.request(), request)
    result = EngineResult(np.array([5, 2]), np.array([1.5, -1], np.float32), [edits, edits])
    result = result._replace(queue_seconds=0.25, inference_seconds=0.5, batch_size=3, divergence=0.125)
    result = result._replace(variants=[result, result._replace(divergence=None)])
    for items, named in ((2, 3), (2, 0), (0, 0)):
        result = result._replace(account=account(items, named, random))
        answered = msgspec.msgpack.decode(msgspec.msgpack.encode(Result.of(1, result)), type=Result)
        assert_same(answered.result(), result)
    answered = msgspec.msgpack.decode(msgspec.msgpack.encode(Result.of(1, result._replace(account=None))), type=Result)
    assert answered.result().account is None


def account(items: int, named: int, random: np.random.Generator) -> Account:
    """Of so many items and features, under `named` controls."""
    floats = [random.normal(size=shape).astype(np.float32) for shape in (9, named, items, (items, named), items)]
    activations_F, shares_J, scores_R, table, other_R = floats
    rows_J, rows_RJ = random.integers(9, size=named), random.integers(9, size=(items, named))
    return Account(
        activations_F, rows_J, shares_J, 0.25, scores_R, rows_RJ, table, other_R, other_R + 1, other_R + 2, table + 1
    )


def assert_same(one: object, other: object) -> None:
    """Field by field, arrays with their types."""
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    elif isinstance(one, tuple | list):
        assert isinstance(other, tuple | list)
        for mine, yours in zip(one, other, strict=True):
            assert_same(mine, yours)
    else:
        assert one == other


@pytest.mark.parametrize(
    "error", [QueueFull("full", retry_seconds=0.5), DeadlineTooNear("near", retry_seconds=1.0), EngineLost()]
)
def test_errors_cross_with_when_to_come_back(error: QueueFull | DeadlineTooNear | EngineLost) -> None:
    crossed = Failure.of(1, error).error()
    assert type(crossed) is type(error)
    assert str(crossed) == str(error)
    assert crossed.retry_seconds == error.retry_seconds
