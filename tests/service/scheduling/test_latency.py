"""The latency model learns from batches."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.scheduling.latency import NOTHING, LatencyModel, Load, QueueModel

LENGTHS = st.lists(st.integers(0, 200), min_size=1, max_size=64)


def load_of(lengths: list[int]) -> Load:
    return Load(len(lengths), sum(lengths))


def taught(seconds: tuple[float, float, float], batches: list[list[int]]) -> LatencyModel:
    model = LatencyModel()
    for lengths in batches:
        model.learn(load_of(lengths), true(seconds, load_of(lengths)))
    return model


def true(seconds: tuple[float, float, float], load: Load) -> float:
    batch, request, position = seconds
    return batch + request * load.requests + position * load.positions


# Of a small recommender on a CPU, of a GPU, and of a catalogue of a million items.
MACHINES = [(5e-4, 1e-4, 9e-6), (2e-3, 1e-5, 1e-7), (3e-4, 1.2e-2, 9e-6)]


@pytest.mark.parametrize("seconds", MACHINES)
def test_batches_teach_what_the_next_one_takes(seconds: tuple[float, float, float]) -> None:
    random = Random(0)
    batches = [[random.randrange(20, 200) for _ in range(random.randrange(1, 64))] for _ in range(100)]
    model = taught(seconds, batches[:-1])
    assert model.seconds(load_of(batches[-1])) == pytest.approx(true(seconds, load_of(batches[-1])), rel=0.1)


@pytest.mark.parametrize("seconds", MACHINES)
def test_a_burst_is_understood_after_its_first_batches(seconds: tuple[float, float, float]) -> None:
    """However many single requests came before."""
    random = Random(0)
    burst = [[random.randrange(20, 200) for _ in range(64)] for _ in range(4)]
    model = taught(seconds, [[random.randrange(20, 200)] for _ in range(100)] + burst[:-1])
    assert model.seconds(load_of(burst[-1])) == pytest.approx(true(seconds, load_of(burst[-1])), rel=0.2)


@settings(deadline=None)
@given(st.lists(st.tuples(LENGTHS, st.floats(0, 10)), max_size=30), LENGTHS, LENGTHS)
def test_more_work_never_takes_less(batches: list[tuple[list[int], float]], some: list[int], more: list[int]) -> None:
    model = LatencyModel()
    for lengths, seconds in batches:
        model.learn(load_of(lengths), seconds)
    assert 0 <= model.call_seconds == model.seconds(NOTHING)
    assert model.seconds(load_of(some)) <= model.seconds(load_of(some).plus(load_of(more)))


def test_concepts_have_a_cost_before_any_was_solved_and_the_measured_one_after() -> None:
    model, random = LatencyModel(), Random(0)
    assert model.seconds(Load(1, 0, 32)) > 0.003
    for _ in range(60):
        load = Load(random.randrange(1, 8), random.randrange(400), random.choice([0, 0, 1, 32]))
        model.learn(load, 5e-4 + 1e-4 * load.requests + 9e-6 * load.positions + 5e-3 * load.concept_features)
    assert model.seconds(Load(1, 0, 32)) == pytest.approx(0.16, rel=0.1)


def test_filters_and_tilts_cost_what_they_took() -> None:
    model, random = LatencyModel(), Random(0)
    for _ in range(60):
        load = Load(random.randrange(1, 8), random.randrange(400), 0, random.choice([0, 0, 2, 8]))
        model.learn(load, 5e-4 + 1e-4 * load.requests + 9e-6 * load.positions + 3e-3 * load.item_vectors)
    assert model.seconds(Load(1, 0, 0, 2)) == pytest.approx(6.6e-3, rel=0.1)


def test_a_batch_holds_no_more_requests_with_their_variants_than_it_may() -> None:
    model = QueueModel(8, float("inf"))
    assert not model.overfull(Load(8, 100))
    assert model.overfull(Load(9, 100))
