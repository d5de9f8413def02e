"""The estimate of which controls change a list at the smallest cost, against the engine."""

import numpy as np
import pytest

from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.request import Edits, EngineRequest, EngineResult
from steersman_service.steering.changes import Candidate, ControlCandidates, eligible, margin, overlap

K = 6


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return Engine(Graphs(bundle, load_backend(bundle, "onnx", "cpu", 1)))


@pytest.fixture(scope="module")
def candidates(bundle: Bundle, items: Items) -> ControlCandidates:
    return ControlCandidates(bundle, Catalogue(bundle, items))


def scores(engine: Engine, ids_T: Array, candidate: Candidate | None = None) -> Array:
    """Of all items, under a weak control."""
    request = EngineRequest(ids_T, k=len(engine.bundle.items_ND))
    if candidate and candidate.control.HasField("concept"):
        names = engine.bundle.concepts["name"].to_pylist()
        concepts_C = np.array([names.index(candidate.control.concept)])
        strengths_C = np.full(1, 0.05 * candidate.sign, np.float32)
        request = request._replace(concepts_C=concepts_C, concept_strengths_C=strengths_C)
    elif candidate:
        one = np.ones(1, np.float32)
        edits = Edits(np.array([candidate.control.feature.id]), one, 0.05 * candidate.sign * one)
        request = request._replace(edits=edits)
    (result,) = engine.run([request])
    scores_N = np.zeros(len(result.rows_K))
    scores_N[result.rows_K] = result.scores_K
    return scores_N


@pytest.mark.parametrize("place", [2, 5, 9, 30])
def test_candidates_move_the_item_the_wanted_way(engine: Engine, candidates: ControlCandidates, place: int) -> None:
    for seed in range(3):
        ids_T = np.random.default_rng(seed).integers(60, size=10)
        before_N = scores(engine, ids_T)
        best = np.argsort(-before_N, kind="stable")
        listed, row = best[:K].tolist(), int(best[place])
        inside = place < K
        ranked = candidates.ranked(row, listed, np.array([*before_N[listed], before_N[row]]))
        assert {one.control.WhichOneof("target") for one in ranked} == {"concept", "feature"}
        rivals = [other for other in listed if other != row] if inside else listed[-1:]
        for candidate in ranked:
            change_N = scores(engine, ids_T, candidate) - before_N
            lift = change_N[row] - change_N[rivals].mean()
            assert lift <= 1e-5 if inside else lift >= -1e-5


def test_the_cheapest_do_little_else(engine: Engine, candidates: ControlCandidates) -> None:
    """What a candidate does to the item, beside what it does to all scores, falls along the ranking."""
    ids_T = np.random.default_rng(7).integers(60, size=10)
    before_N = scores(engine, ids_T)
    best = np.argsort(-before_N, kind="stable")
    ranked = candidates.ranked(int(best[K]), best[:K].tolist(), np.array([*before_N[best[:K]], before_N[best[K]]]))
    changes_XN = np.array([scores(engine, ids_T, one) - before_N for one in ranked])
    lifts_X = changes_XN[:, best[K]] - changes_XN[:, best[K - 1]]
    efficiency_X = lifts_X / changes_XN.std(1)
    assert np.corrcoef(efficiency_X, np.arange(len(ranked)))[0, 1] < -0.9


def test_an_empty_list_has_no_candidates(candidates: ControlCandidates) -> None:
    assert candidates.ranked(3, [], np.zeros(1)) == []
    assert candidates.ranked(3, [3], np.zeros(2)) == []


def test_margins_overlaps_and_who_may_be_listed() -> None:
    result = EngineResult(np.array([4, 2, 7]), np.array([3.0, 2.5, 1.0]), [])
    assert margin(result, 4, 2) == 2.0
    assert margin(result, 7, 2) == -np.inf
    assert margin(result, 7, 3) == np.inf
    assert overlap([4, 9], result.rows_K) == 0.5
    assert overlap([], result.rows_K) == 1
    request = EngineRequest(np.array([1]), eligible_N=np.array([True, False, True]), excluded_X=np.array([2]))
    assert [eligible(request, row) for row in range(3)] == [True, False, False]
    assert eligible(EngineRequest(np.array([1])), 5)
