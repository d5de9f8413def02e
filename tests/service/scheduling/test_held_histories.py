"""What an engine holds, guessed by the one who sends: beside the engine itself, whose caches may be small."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.bundle.bundle import Bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Engine, Work
from steersman_service.scheduling.held_histories import HeldHistories
from tests.service.engine.test_append import Conversations, caching


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return Engine(bundle, load_backend(bundle, "onnx", "cpu", 1))


def ask(held: HeldHistories, engine: Engine, batch: list[Work]) -> None:
    for work in batch:
        held.sent(work)
    engine.run(batch)
    held.told(len(engine.states), len(engine.key_values))


@pytest.mark.parametrize(
    ("kv_bytes", "state_bytes"), [(1 << 24, 1 << 20), (30_000, 3000), (0, 1 << 20), (1 << 24, 0), (0, 0)]
)
@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12))
def test_it_is_what_the_engine_says(engine: Engine, kv_bytes: int, state_bytes: int, seed: int, count: int) -> None:
    """Request by request: in which order a batch enters the caches is the engine's affair."""
    conversations = Conversations(engine.bundle, np.random.default_rng(seed), count)
    own, _ = caching(engine, kv_bytes, state_bytes)
    held = HeldHistories()
    for _ in range(12):
        for work in conversations.batch():
            assert held.positions(work) == own.positions(work)
            ask(held, own, [work])


def test_batches_are_followed_too(engine: Engine) -> None:
    conversations = Conversations(engine.bundle, np.random.default_rng(0), 6)
    own, counts = caching(engine)
    held = HeldHistories()
    for _ in range(30):
        batch = conversations.batch()
        assert [held.positions(work) for work in batch] == [own.positions(work) for work in batch]
        ask(held, own, batch)
    assert counts.hits


def test_a_state_that_comes_along_is_not_computed(engine: Engine) -> None:
    (work,) = Conversations(engine.bundle, np.random.default_rng(1), 1).batch()
    assert HeldHistories().positions(work._replace(ids_T=np.arange(5), state=b"known")) == 0
