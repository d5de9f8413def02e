"""Divergences beside a computation of their own, and variants beside requests of their own."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.bundle.bundle import Array, Bundle, load_bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.divergence import divergences
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.request import NO_EDITS, NO_ROWS, NO_STRENGTHS, Edits, EngineRequest, Variant
from tests.service.engine.test_engine import random_work

ROWS, ITEMS, HIDDEN = 3, 40, 8


@pytest.fixture(scope="module", params=["onnx", "torch", "below the last block"])
def engine(request: pytest.FixtureRequest, bundle: Bundle, below_the_last_block: Path) -> Engine:
    if request.param == "below the last block":
        bundle = load_bundle(below_the_last_block, "onnx")
        return Engine(Graphs(bundle, load_backend(bundle, "onnx", "cpu", 1)))
    return Engine(Graphs(bundle, load_backend(bundle, request.param, "cpu", 1)))


def plain(work: EngineRequest) -> EngineRequest:
    return Variant().of(work)


def all_scores(engine: Engine, work: EngineRequest) -> Array:
    """Of every item that may be returned, by row; what is left is minus infinity. (N)"""
    size = len(engine.bundle.items_ND)
    (result,) = engine.run([work._replace(k=size)])
    scores_N = np.full(size, -np.inf)
    scores_N[result.rows_K] = result.scores_K
    return scores_N


def own_divergence(steered_N: Array, plain_N: Array) -> float:
    """From the scores of two answers."""
    real = np.isfinite(steered_N)
    if not real.any():
        return 0.0
    s, t = steered_N[real].astype(np.float64), plain_N[real].astype(np.float64)
    log_p, log_q = s - np.log(np.exp(s - s.max()).sum()) - s.max(), t - np.log(np.exp(t - t.max()).sum()) - t.max()
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def test_it_is_what_the_scores_of_both_lists_say(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    works = [random_work(engine.bundle, rng)._replace(divergence=bool(place % 3)) for place in range(30)]
    for work, result in zip(works, engine.run(works), strict=True):
        if not work.divergence:
            assert result.divergence is None
            continue
        expected = own_divergence(all_scores(engine, work), all_scores(engine, plain(work)))
        assert result.divergence == pytest.approx(expected, abs=2e-5, rel=1e-4)


def test_without_controls_or_items_it_is_nothing(engine: Engine) -> None:
    ids_T, items = np.array([1, 2]), len(engine.bundle.items_ND)
    unsteered = EngineRequest(ids_T, divergence=True)
    edits = Edits(np.array([3]), np.ones(1, np.float32), np.ones(1, np.float32))
    nothing = EngineRequest(ids_T, edits, eligible_N=np.zeros(items, np.bool_), divergence=True)
    assert [result.divergence for result in engine.run([unsteered, nothing])] == [0, 0]


@given(seed=st.integers(0, 2**32 - 1), part=st.integers(1, 200), scale=st.sampled_from([1e-3, 1.0, 100.0]))
def test_parts_do_not_matter(seed: int, part: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    plain_D, steered_RD = rng.normal(size=HIDDEN), rng.normal(size=(ROWS, HIDDEN))
    items_ND, biases_N = scale * rng.normal(size=(ITEMS, HIDDEN)), rng.normal(size=ITEMS)
    mask_N = rng.random(ITEMS) < 0.2
    tilts_RN = rng.normal(size=(ROWS, ITEMS)).astype(np.float32)
    requests = [EngineRequest(NO_ROWS, eligible_N=mask_N, tilts_N=tilts_N) for tilts_N in tilts_RN]
    whole_R = divergences(plain_D, steered_RD, items_ND, biases_N, requests)
    np.testing.assert_allclose(
        divergences(plain_D, steered_RD, items_ND, biases_N, requests, part), whole_R, rtol=1e-9, atol=1e-9
    )
    plain_N = np.where(mask_N, items_ND @ plain_D + biases_N, -np.inf)
    for value, steered_D, tilts_N in zip(whole_R, steered_RD, tilts_RN, strict=True):
        steered_N = np.where(mask_N, items_ND @ steered_D + biases_N + tilts_N, -np.inf)
        assert value == pytest.approx(own_divergence(steered_N, plain_N), rel=1e-6, abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_variants_are_what_requests_of_their_own_are(engine: Engine, seed: int) -> None:
    rng = np.random.default_rng(seed)
    works = []
    for _ in range(3):
        others = [random_work(engine.bundle, rng, jumps=False) for _ in range(rng.integers(4))]
        variants = [Variant(w.edits, w.concepts_C, w.concept_strengths_C, w.tilts_N) for w in others]
        works.append(random_work(engine.bundle, rng, jumps=False)._replace(variants=variants, divergence=True))
    for work, result in zip(works, engine.run(works), strict=True):
        assert len(result.variants) == len(work.variants)
        alone = engine.run([work._replace(variants=()), *(variant.of(work) for variant in work.variants)])
        for found, expected in zip([result, *result.variants], alone, strict=True):
            np.testing.assert_array_equal(found.rows_K, expected.rows_K)
            np.testing.assert_allclose(found.scores_K, expected.scores_K, rtol=1e-5, atol=1e-5)
            assert found.divergence == pytest.approx(expected.divergence, rel=1e-3, abs=1e-5)
            for one, other in zip(found.concept_edits, expected.concept_edits, strict=True):
                np.testing.assert_array_equal(one.features_E, other.features_E)
                np.testing.assert_allclose(one.strengths_E, other.strengths_E, rtol=1e-4, atol=1e-5)


def test_variants_and_divergence_cost_what_they_ask_for(engine: Engine) -> None:
    items = len(engine.bundle.items_ND)
    asked = EngineRequest(np.arange(7), eligible_N=np.ones(items, np.bool_))
    tilted = Variant(NO_EDITS, NO_ROWS, NO_STRENGTHS, np.zeros(items, np.float32))
    concept = Variant(concepts_C=np.array([0]), concept_strengths_C=np.ones(1, np.float32))
    own, positions = engine.cost(asked), engine.positions(asked)
    assert own == (1, positions, 0, 1)
    assert engine.cost(asked._replace(divergence=True)) == (1, positions, 0, 3)
    parts = [engine.cost(variant.of(asked)) for variant in (tilted, concept)]
    expected = (3, positions, 1, own.item_vectors + sum(part.item_vectors for part in parts))
    assert engine.cost(asked._replace(variants=[tilted, concept])) == expected
