"""Recordings, on the CPU: padding, the choice among them, and whose memory an answer is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.engine.backends.replayed import Recorder, Replayed, Tensors

WEIGHTS_W = torch.arange(1.0, 7.0)


class Weighed:
    """sum_w x_w weight_w, and the length of x, of each row; notes the shapes that it is called with."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, weights_W: torch.Tensor, x_BW: torch.Tensor, y_B: torch.Tensor) -> Tensors:
        self.shapes.append(tuple(x_BW.shape))
        width = x_BW.shape[1]
        return x_BW @ weights_W[:width] + y_B, (x_BW != 0).sum(1)


def recorded(*sizes: tuple[int, int]) -> tuple[Weighed, Replayed]:
    run = Weighed()
    replayed = Replayed(run, [None, 0, 0])
    for rows, width in sizes:
        replayed.record(Recorder("cpu"), (WEIGHTS_W, torch.full((rows, width), 9.0), torch.full((rows,), 9.0)))
    run.shapes.clear()
    return run, replayed


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=2, max_size=6), st.integers(0, 1 << 30))
def test_calls_give_what_the_function_gives_and_answers_stay(sizes: list[tuple[int, int]], seed: int) -> None:
    """Whatever was there before, in the rows and columns that pad an input; and whatever comes after, in the memory of an answer."""
    _, replayed = recorded((2, 3), (4, 6), (1, 6))
    generator = torch.Generator().manual_seed(seed)
    answers = []
    for rows, width in sizes:
        inputs = WEIGHTS_W, torch.rand(rows, width, generator=generator), torch.rand(rows, generator=generator)
        answers.append((replayed(*inputs), Weighed()(*inputs)))
    for got, wanted in answers:
        for one, other in zip(got, wanted, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("given", "ran"),
    [((1, 1), (1, 6)), ((1, 6), (1, 6)), ((2, 2), (2, 3)), ((2, 4), (4, 6)), ((4, 6), (4, 6)), ((5, 1), (5, 1))],
)
def test_the_smallest_that_fits_is_taken(given: tuple[int, int], ran: tuple[int, int]) -> None:
    run, replayed = recorded((4, 6), (1, 6), (2, 3))
    replayed(WEIGHTS_W, torch.ones(given), torch.ones(given[0]))
    assert run.shapes == [ran]


def test_another_table_is_not_the_one_that_was_recorded() -> None:
    run, replayed = recorded((2, 3))
    sums_B, _ = replayed(2 * WEIGHTS_W, torch.ones(1, 1), torch.zeros(1))
    assert run.shapes == [(1, 1)]
    assert sums_B.tolist() == [2.0]


def test_a_recording_that_does_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "record", lambda self, run: (lambda: None, run()))
    with pytest.raises(RuntimeError, match=r"a recording for \[6\], \[2, 3\], \[2\]"):
        recorded((2, 3))
