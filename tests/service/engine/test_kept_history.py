"""Keys and values of one history: they grow in place, and lie beside those of others."""

import numpy as np
import pytest

from steersman_service.bundle.bundle import Array
from steersman_service.engine.kept_history import ARRAY_BYTES, ROOM, KeptHistory, PaddingBuffer

NAMES = ["keys_0_BPD", "values_0_BPD", "recent_0_BRD"]
WIDTH, REACH, MOST = 4, 2, 2 * ROOM + 10


def rows(events: int) -> list[Array]:
    """What is kept of so many events: every number of it is one of a kind."""
    every = [np.arange((events + 1) * WIDTH, dtype=np.float32).reshape(-1, WIDTH) + 10_000 * place for place in (0, 1)]
    return [*every, np.stack([np.full(WIDTH, events - back, np.float32) for back in (1, 0)])]


def history(events: int) -> KeptHistory:
    # What a batch answers is padded.
    padded = [np.concatenate([part, np.full((3, WIDTH), -1, np.float32)]) for part in rows(events)[:2]]
    return KeptHistory(events, dict(zip(NAMES, [*padded, rows(events)[2]], strict=True)), MOST)


@pytest.mark.parametrize("begin", [0, 1, ROOM - 2, ROOM - 1, 2 * ROOM])
def test_a_history_grows_in_place_to_what_it_would_be(begin: int) -> None:
    grown, wanted = history(begin), rows(MOST)
    for events in range(begin + 1, MOST + 1):
        added_LD = np.stack([wanted[0][events], wanted[1][events], np.full(WIDTH, events, np.float32)])
        grown.append(added_LD)
        assert grown.events == events
        for tensor, part in zip(grown.tensors().values(), rows(events), strict=True):
            np.testing.assert_array_equal(tensor, part)
    assert grown.nbytes == history(MOST).nbytes == (2 * (MOST + 1) + REACH) * WIDTH * 4 + 3 * ARRAY_BYTES


def test_histories_lie_beside_each_other_padded_with_zeros() -> None:
    buffer, some = PaddingBuffer(), [history(events) for events in (3, 1, 2)]
    buffer.padded([history(9) for _ in range(4)])
    padded = buffer.padded(some)
    assert {name: tensor.shape for name, tensor in padded.items()} == {
        "keys_0_BPD": (3, 4, WIDTH),
        "values_0_BPD": (3, 4, WIDTH),
        "recent_0_BRD": (3, REACH, WIDTH),
    }
    for row, own in enumerate(some):
        for tensor, part in zip(padded.values(), own.tensors().values(), strict=True):
            np.testing.assert_array_equal(tensor[row, : len(part)], part)
            assert not tensor[row, len(part) :].any()


def test_one_history_is_not_copied() -> None:
    alone = history(5)
    padded = PaddingBuffer().padded([alone]).values()
    assert all(np.shares_memory(tensor, part) for tensor, part in zip(padded, alone.tensors().values(), strict=True))
