"""An engine in a process of its own answers as one beside it does. Its end, and that of the server: tests/e2e/test_serve_apart.py."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.bundle.bundle import Bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Answer, Engine, Work
from steersman_service.errors import StartupError
from steersman_service.processes.engine_child import Desk, Recorder, main
from steersman_service.processes.engine_process import EngineProcess
from steersman_service.scheduling.engine_wire import Request, packed
from steersman_service.scheduling.remote_engine import RemoteEngine
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics
from tests.service.engine.test_append import Conversations
from tests.service.engine.test_engine import assert_same, with_repeats, works
from tests.serving import settings_for


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


class Apart:
    """The engine, and the event loop that it is asked on."""

    def __init__(self, runner: asyncio.Runner, engine: RemoteEngine) -> None:
        self._runner = runner
        self.engine = engine

    def run(self, batch: Sequence[Work]) -> list[Answer]:
        return self._runner.run(self.engine.run(batch))

    def run_at_once(self, batches: Sequence[Sequence[Work]]) -> list[list[Answer]]:
        async def run() -> list[list[Answer]]:
            return await asyncio.wait_for(asyncio.gather(*map(self.engine.run, batches)), timeout=60)

        return self._runner.run(run())


@pytest.fixture(scope="module", params=["onnx", "torch"])
def apart(
    request: pytest.FixtureRequest,
    bundle_dir: Path,
    bundle: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
    metrics: Metrics,
) -> Iterator[Apart]:
    own = settings_for(tmp_path_factory.mktemp("apart"), bundle_dir, backend=request.param, max_batch=24)

    async def start() -> tuple[EngineProcess, RemoteEngine]:
        process = EngineProcess.start(own)
        await process.loaded()
        return process, await RemoteEngine.open(process.connect(), bundle, metrics, asyncio.Event())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        process, engine = runner.run(start())
        assert engine.backend == (request.param, "cpu", bundle.version)
        yield Apart(runner, engine)
        engine.close()
        runner.run(process.close())


@pytest.fixture(scope="module")
def beside(bundle: Bundle) -> Engine:
    """Which keeps nothing."""
    return Engine(bundle, load_backend(bundle, "onnx", "cpu", 1))


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 24))
def test_alone_equals_batched_equals_cached(apart: Apart, beside: Engine, seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    batch = with_repeats(works(beside.bundle, size, seed, jumps=False), rng)
    alone = [beside.run([work])[0] for work in batch]
    for order in (range(size), rng.permutation(size)[: 1 + size // 2].tolist(), rng.permutation(size).tolist()):
        for row, answer in zip(order, apart.run([batch[row] for row in order]), strict=True):
            assert_same(answer, alone[row], 1e-5)


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6))
def test_appended_equals_computed_anew(apart: Apart, beside: Engine, seed: int, count: int) -> None:
    """What grows shares its state, as from any engine."""
    conversations = Conversations(beside.bundle, np.random.default_rng(seed), count)
    for _ in range(20):
        batch = conversations.batch()
        for work, answer in zip(batch, apart.run(batch), strict=True):
            alone = beside.run([work])[0]
            assert_same(answer, alone, 1e-5)
            if answer.state:
                state_D, alone_D = (np.frombuffer(one.state, np.float32) for one in (answer, alone))
                np.testing.assert_allclose(state_D, alone_D, atol=1e-4)
        assert all(apart.engine.positions(work) == 0 for work in batch)


def test_batches_under_way_get_their_own_answers(apart: Apart, beside: Engine) -> None:
    """More of them than a socket holds."""
    batches = [works(beside.bundle, 1 + seed % 24, seed, jumps=False) for seed in range(60)]
    for batch, answers in zip(batches, apart.run_at_once(batches), strict=True):
        for work, answer in zip(batch, answers, strict=True):
            assert_same(answer, beside.run([work])[0], 1e-5)


def test_a_batch_that_fails_fails_alone(apart: Apart, beside: Engine) -> None:
    good, bad = works(beside.bundle, 2, seed=3, jumps=False)
    with pytest.raises(RuntimeError, match="Traceback"):
        apart.run([good, bad._replace(ids_T=np.array([10**6]))])
    assert_same(apart.run([good])[0], beside.run([good])[0], 1e-5)


def test_an_engine_that_computes_nothing_any_more_ends(
    beside: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(tensors: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(beside.backend, "fetch", fault)
    configure_logs("error", "json")
    control, desks = socket.socketpair()
    ours, theirs = socket.socketpair()
    with control, desks, ours, theirs:
        socket.send_fds(control, [b"+"], [theirs.fileno()])
        ours.sendall(packed([Request.of(work) for work in works(beside.bundle, 2, seed=3, jumps=False)]))
        desk = Desk(beside, 24, desks, Recorder(), Metrics())
        with pytest.raises(SystemExit, match="1"):
            desk.serve()
        for peer in desk._peers.values():
            peer.connection.close()
    assert "an illegal memory access" in capsys.readouterr().err


def test_a_batch_that_cannot_be_sent_takes_nobodys_answer(
    apart: Apart, beside: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(message: object) -> bytes:
        raise MemoryError

    lost, *others = works(beside.bundle, 3, seed=5, jumps=False)
    with monkeypatch.context() as patch:
        patch.setattr("steersman_service.scheduling.remote_engine.packed", too_large)
        with pytest.raises(MemoryError):
            apart.run([lost])
    for (answer,), work in zip(apart.run_at_once([[work] for work in others]), others, strict=True):
        assert_same(answer, beside.run([work])[0], 1e-5)


def test_what_it_does_is_counted(apart: Apart, beside: Engine, metrics: Metrics) -> None:
    def moved(name: str, **labels: str) -> float:
        return metrics.registry.get_sample_value(name, labels) or 0.0

    names = ("steersman_state_cache_hits_total", "steersman_state_cache_misses_total")
    before, searched = [*map(moved, names)], moved("steersman_inference_seconds_count", stage="search")
    (work,) = works(beside.bundle, 1, seed=4)
    new = work._replace(ids_T=np.arange(19, 2, -1), concepts_C=work.concepts_C[:0])
    apart.run([new])
    apart.run([new, new])
    assert [now - then for then, now in zip(before, map(moved, names), strict=True)] == [2.0, 1.0]
    assert moved("steersman_inference_seconds_count", stage="search") - searched == 2.0
    assert apart.engine.states.entries
    assert apart.engine.states.held_bytes
    assert apart.engine.key_values.held_bytes


def test_what_goes_wrong_while_it_loads_is_not_kept_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(*arguments: object) -> None:
        raise OSError("libcudart.so: cannot open shared object file")

    monkeypatch.setattr("steersman_service.processes.engine_child.load_engine", no_library)
    monkeypatch.setattr("signal.signal", lambda *arguments: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(packed(settings_for(tmp_path, tmp_path, log_level="error")))
        with pytest.raises(OSError, match="libcudart"):
            main(theirs)


@pytest.mark.parametrize(
    ("executable", "why"),
    [("/bin/false", "ended with exit code 1 before"), ("/nobody", "cannot be started: No such file")],
)
async def test_a_process_that_does_not_start_says_why(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str, why: str
) -> None:
    configure_logs("critical", "json")  # as of a test before, it may write to a file that is closed by now
    monkeypatch.setattr("sys.executable", executable)

    async def load() -> None:
        engine = EngineProcess.start(settings_for(tmp_path, bundle_dir))
        try:
            await engine.loaded()
        finally:
            await engine.close()

    with pytest.raises(StartupError, match=why):
        await load()
