"""The graphs as torch modules: the edit, the search and its ties, the window, states at any hook."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steersman_training.autoencoder.edit import Edit, natural_scale
from steersman_training.autoencoder.sae import SaeConfig, SparseAutoencoder, measure_sae, train_sae
from steersman_training.bundle.graphs import (
    ConceptEdits,
    FixedConcepts,
    Lower,
    OnnxSearch,
    Search,
    SolvedConcepts,
    Solver,
    Upper,
    _newton_step,
    _taper,
)
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.concepts import ConceptConfig, fit_concepts
from steersman_training.catalogue.steering import Audience
from steersman_training.data.sequences import window_start
from steersman_training.recommender.model import Recommender, RecommenderConfig, last_position


@pytest.fixture(scope="module")
def edit() -> Edit:
    torch.manual_seed(0)
    sae = SparseAutoencoder(hidden=12, features=40, active=5).requires_grad_(False)
    return Edit(sae, natural_scale(sae, torch.randn(500, 12)))


def test_no_edit_gives_back_the_state_value_for_value(edit: Edit) -> None:
    h_BD = torch.randn(6, 12)
    padding = (torch.zeros(6, 3, dtype=torch.int64), torch.ones(6, 3), torch.zeros(6, 3))
    assert torch.equal(edit(h_BD, *padding).edited_BD, h_BD)


@given(st.lists(st.tuples(st.integers(0, 39), st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.floats(-2, 2)), max_size=6))
@settings(deadline=None, max_examples=60)
def test_edits_compose_as_the_equation_says_in_any_order(edit: Edit, edits: list[tuple[int, float, float]]) -> None:
    h_1D = torch.randn(1, 12, generator=torch.Generator().manual_seed(len(edits)))
    z_F = edit.sae.encode(h_1D)[0]
    wanted_F = z_F.clone()
    for feature in {one[0] for one in edits}:
        gain = math.prod(one[1] for one in edits if one[0] == feature)
        wanted_F[feature] = (
            gain * z_F[feature] + sum(one[2] for one in edits if one[0] == feature) * edit.scale_F[feature]
        )
    wanted_D = h_1D[0] + (wanted_F - z_F) @ edit.sae.decoder_FD
    for order in (edits, edits[::-1]):
        columns = [torch.tensor([[one[at] for one in order]]) for at in range(3)]
        got = edit(h_1D, columns[0].long(), columns[1].float(), columns[2].float())
        torch.testing.assert_close(got.edited_BD[0], wanted_D, rtol=1e-5, atol=1e-5)


def test_no_row_feels_the_edits_of_another(edit: Edit) -> None:
    generator = torch.Generator().manual_seed(1)
    h_BD = torch.randn(16, 12, generator=generator)
    features_BE = torch.randint(40, (16, 4), generator=generator)
    gains_BE, strengths_BE = torch.rand(16, 4, generator=generator), torch.randn(16, 4, generator=generator)
    together = edit(h_BD, features_BE, gains_BE, strengths_BE).edited_BD
    for row in range(16):
        alone = edit(*(part[row : row + 1] for part in (h_BD, features_BE, gains_BE, strengths_BE))).edited_BD
        torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-6)


@given(st.lists(st.integers(-2, 2), min_size=3, max_size=30), st.integers(1, 30), st.data())
@settings(deadline=None, max_examples=100)
def test_search_breaks_ties_by_row_and_never_ranks_the_ineligible(
    scores: list[int], k: int, data: st.DataObject
) -> None:
    k = min(k, len(scores))
    eligible = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    items_ND = torch.tensor(scores, dtype=torch.float32)[:, None]
    inputs = (torch.ones(1, 1), items_ND, torch.zeros(len(scores)), torch.tensor([eligible]))
    found = Search()(*inputs, torch.zeros(1, len(scores)), torch.tensor(k))
    wanted = sorted((row for row in range(len(scores)) if eligible[row]), key=lambda row: (-scores[row], row))[:k]
    assert found.rows_BK[0, : len(wanted)].tolist() == wanted
    assert bool((found.scores_BK[0, len(wanted) :] == -math.inf).all())


def test_search_for_onnx_finds_the_same_without_ties() -> None:
    inputs = (torch.randn(4, 8), torch.randn(50, 8), torch.randn(50), torch.rand(4, 50) < 0.7, torch.randn(4, 50))
    for one, other in zip(Search()(*inputs, torch.tensor(9)), OnnxSearch()(*inputs, torch.tensor(9)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("hook", [0, 1, 2])
def test_lower_and_upper_make_the_recommender_at_any_hook(hook: int) -> None:
    torch.manual_seed(2)
    model = Recommender(RecommenderConfig(hidden=16, window_length=10, window_stride=2, hook=hook), 30).eval()
    ids_BT, lengths_B = torch.randint(30, (5, 10)), torch.tensor([0, 1, 4, 9, 10])
    with torch.no_grad():
        h_BD, *context = Lower(model)(model.items.weight, ids_BT, lengths_B)
        query_BD = Upper(model)(h_BD, *context, *([lengths_B] if context else []))
        torch.testing.assert_close(query_BD, last_position(model(ids_BT), lengths_B))
        padded_BT = torch.where(torch.arange(10) < lengths_B[:, None], ids_BT, 7)
        torch.testing.assert_close(Lower(model)(model.items.weight, padded_BT, lengths_B)[0], h_BD)


def test_concepts_come_down_to_weighted_adds() -> None:
    graph = FixedConcepts(torch.tensor([[3, 5], [8, 0]]), torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
    features, gains, edits = graph(torch.tensor([[1, 0]]), torch.tensor([[2.0, 0.5]]))
    assert features.tolist() == [[8, 0, 3, 5]]
    assert gains.tolist() == [[1.0] * 4]
    assert edits.tolist() == [[1.0, 0.0, 0.5, -1.0]]


RIDGE = 0.05


class Solvable:
    """Twenty users, thirty items of which every third has the value, and one concept of eight features."""

    def __init__(self, edit: Edit, solver: Solver | None = None) -> None:
        generator = torch.Generator().manual_seed(5)
        self.edit = edit
        self.items_ND, self.biases_N = torch.randn(30, 12, generator=generator), torch.randn(30, generator=generator)
        self.member_N = torch.arange(30) % 3 == 0
        alive = (edit.scale_F > 0).nonzero().flatten()[:8]
        self.graph = SolvedConcepts(
            edit, alive[None], self.member_N.float()[None], torch.tensor([1.5]), solver or Solver()
        )
        self.h_BD = torch.randn(20, 12, generator=generator)
        self.candidates_BK = torch.stack([torch.randperm(30, generator=generator)[:25] for _ in range(20)])
        self.scores_BK = (self.h_BD @ self.items_ND.T + self.biases_N).gather(1, self.candidates_BK)

    def solve(self, strengths: list[float], rows: slice = slice(None)) -> Tensor:
        edited_BD: Tensor = self.edit(self.h_BD[rows], *self.edits(strengths, rows)).edited_BD
        return edited_BD

    def edits(self, strengths: list[float], rows: slice = slice(None)) -> ConceptEdits:
        candidates_BK = self.candidates_BK[rows]
        concepts_BC = torch.zeros(len(candidates_BK), len(strengths), dtype=torch.int64)
        strengths_BC = torch.tensor(strengths).expand(len(candidates_BK), -1)
        edits: ConceptEdits = self.graph(candidates_BK, self.scores_BK[rows], self.items_ND, concepts_BC, strengths_BC)
        return edits

    def choose(self, scores_BN: Tensor, count: int) -> None:
        """Makes the best of them the candidates."""
        self.scores_BK, self.candidates_BK = scores_BN.topk(count)

    def divergence(self, edited_BD: Tensor, strength: float) -> Tensor:
        """KL of the tilted distribution over the candidates and the steered one, of each user."""
        scores, steered = (
            (state @ self.items_ND.T + self.biases_N).gather(1, self.candidates_BK) for state in (self.h_BD, edited_BD)
        )
        wanted = (scores + 1.5 * strength * self.member_N[self.candidates_BK]).log_softmax(1)
        return (wanted.exp() * (wanted - steered.log_softmax(1))).sum(1)


@pytest.mark.parametrize("strength", [0.5, 1.0, -1.0])
def test_a_solved_concept_comes_close_to_the_tilt_for_every_user(edit: Edit, strength: float) -> None:
    case = Solvable(edit)
    before, after = case.divergence(case.h_BD, strength), case.divergence(case.solve([strength]), strength)
    assert bool((after < before).all())
    assert after.mean() < 0.5 * before.mean()


def test_a_solved_concept_depends_on_its_own_row_alone(edit: Edit) -> None:
    case = Solvable(edit)
    torch.testing.assert_close(case.solve([1.0], slice(3, 4))[0], case.solve([1.0])[3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(case.solve([1.0, 0.0]), case.solve([1.0]), rtol=1e-4, atol=1e-5)


def test_candidates_that_may_not_be_returned_weigh_nothing(edit: Edit) -> None:
    case, shorter = Solvable(edit), Solvable(edit)
    case.scores_BK[:, 20:] = -math.inf
    shorter.candidates_BK, shorter.scores_BK = shorter.candidates_BK[:, :20], shorter.scores_BK[:, :20]
    torch.testing.assert_close(case.solve([1.0]), shorter.solve([1.0]), rtol=1e-4, atol=1e-5)


def test_a_solved_concept_at_strength_zero_is_no_edit_at_all(edit: Edit) -> None:
    case = Solvable(edit)
    assert torch.equal(case.solve([0.0]), case.h_BD)


@pytest.mark.parametrize("strengths", [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
def test_a_concept_at_strength_zero_comes_down_to_no_edits_beside_others(edit: Edit, strengths: list[float]) -> None:
    case = Solvable(edit, Solver(25))
    for rows in (slice(None), slice(0, 1), slice(1, 2), slice(2, 3)):
        edits_BCM = case.edits(strengths, rows).concept_edits_BE.unflatten(1, (2, -1))
        for place, strength in enumerate(strengths):
            assert bool((edits_BCM[:, place] != 0).all() if strength else (edits_BCM[:, place] == 0).all())


@pytest.mark.parametrize("strength", [-10.0, -1.0, 1.0, 10.0])
def test_a_concept_that_no_candidate_has_comes_down_to_no_edits(edit: Edit, strength: float) -> None:
    case, whole = Solvable(edit, Solver(10)), Solvable(edit, Solver(30))
    scores_BN = case.h_BD @ case.items_ND.T + case.biases_N
    case.choose(scores_BN.masked_fill(case.member_N, -math.inf), 10)
    assert bool((case.edits([strength]).concept_edits_BE == 0).all())
    # Nor does one that is turned down where those that have it are next to nothing as it is.
    whole.choose(scores_BN.masked_fill(case.member_N, -60), 30)
    assert bool((whole.edits([-abs(strength)]).concept_edits_BE == 0).all())


@pytest.mark.parametrize("strength", [-1.0, 0.5, 1.0, 5.0, 10.0])
@pytest.mark.parametrize("count", [10, 20, 29])
def test_which_of_equal_scores_is_the_last_candidate_makes_no_difference(
    edit: Edit, count: int, strength: float
) -> None:
    """Not one of them is a candidate as the other is, and rounding decides: the two best that are left have the cut's score."""
    case = Solvable(edit, Solver(count))
    scores_BN = case.h_BD @ case.items_ND.T + case.biases_N
    order_BN = scores_BN.argsort(descending=True)
    cut_B1 = scores_BN.gather(1, order_BN[:, count - 1 : count])
    answers = []
    for last in (count - 1, count):
        near_BN = scores_BN.scatter(1, order_BN[:, count - 1 : count + 1], cut_B1.expand(-1, 2))
        near_BN.scatter_add_(1, order_BN[:, last : last + 1], torch.full_like(cut_B1, 1e-6))
        case.choose(near_BN, count)
        answers.append(case.solve([strength]) @ case.items_ND.T + case.biases_N)
    assert (case.candidates_BK == order_BN[:, count : count + 1]).any(1).all()
    scale_B1 = answers[0].abs().amax(1, keepdim=True)
    assert bool(((answers[0] - answers[1]).abs() <= 1e-5 * scale_B1).all())


@pytest.mark.parametrize("strength", [-10.0, 1.0, 5.0, 10.0])
@pytest.mark.parametrize("alone", [True, False])
def test_an_item_that_a_concept_moves_far_may_be_the_last_candidate_or_not(
    edit: Edit, alone: bool, strength: float
) -> None:
    """It is the only one that has the value, or it lies three times as far along the concept's features as another one."""
    case = Solvable(edit, Solver(12))
    case.items_ND[0] = 3 * case.items_ND[3]
    scores_BN = case.h_BD @ case.items_ND.T + case.biases_N
    scores_BN[:, case.member_N if alone else torch.arange(30) == 0] = -math.inf
    last_B = scores_BN.topk(11).values[:, -1]
    answers = []
    for apart in (-1e-6, 1e-6):
        scores_BN[:, 0] = last_B + apart
        case.choose(scores_BN, 12)
        assert bool((case.candidates_BK[:, -1] == 0).all()) == (apart < 0)
        answers.append(case.solve([strength]) @ case.items_ND.T + case.biases_N)
    assert bool(((answers[0] - answers[1]).abs() <= 1e-5 * answers[0].abs().amax(1, keepdim=True)).all())


def test_where_all_items_are_candidates_each_counts_in_full(edit: Edit) -> None:
    case, fewer = Solvable(edit, Solver(30)), Solvable(edit, Solver(29))
    scores_BN = case.h_BD @ case.items_ND.T + case.biases_N
    case.choose(scores_BN, 30)
    taper_BK = _taper(case.scores_BK)
    assert bool((taper_BK[:, -1] == 0).all() and (taper_BK[:, 0] == 1).all())
    # One item may not be returned: then 29 of 30 are all that there are, and none of them is cut off.
    scores_BN[:, 4] = -math.inf
    for one in (case, fewer):
        one.choose(scores_BN, 30)
    torch.testing.assert_close(case.edits([1.0]).concept_edits_BE, fewer.edits([1.0]).concept_edits_BE)


def test_the_newton_step_is_that_of_a_direct_solver() -> None:
    generator = torch.Generator().manual_seed(6)
    jacobian = torch.randn(2, 3, 40, 6, generator=generator).double() * torch.tensor([1e-2, 0.1, 1, 1, 10, 100])
    now, wanted = (torch.randn(2, 3, 40, generator=generator).double().softmax(-1) for _ in range(2))
    metric = (now + wanted) / 2
    centred = jacobian - (metric[..., None] * jacobian).sum(-2, keepdim=True)
    fisher = torch.einsum("bckm,bck,bckn->bcmn", centred, metric, centred)
    curvature = fisher.diagonal(dim1=-2, dim2=-1)
    ridge = RIDGE * torch.diag_embed(curvature + RIDGE * curvature.mean(-1, keepdim=True))
    slope = torch.einsum("bckm,bck->bcm", jacobian, wanted - now)
    exact = torch.linalg.solve(fisher + ridge, slope)
    torch.testing.assert_close(_newton_step(jacobian, now, wanted, RIDGE), exact, rtol=1e-9, atol=1e-12)


def test_a_system_of_the_worst_condition_is_solved_exactly() -> None:
    generator = torch.Generator().manual_seed(8)
    # All features do the same: beside the ridge there is one direction, M times as strong as any of them.
    jacobian = torch.randn(1, 1, 40, 1, generator=generator).double().expand(-1, -1, -1, 128)
    now, wanted = (torch.randn(1, 1, 40, generator=generator).double().softmax(-1) for _ in range(2))
    metric = (now + wanted) / 2
    centred = jacobian - (metric[..., None] * jacobian).sum(-2, keepdim=True)
    fisher = torch.einsum("bckm,bck,bckn->bcmn", centred, metric, centred)
    ridge = 0.02 * 1.02 * torch.diag_embed(fisher.diagonal(dim1=-2, dim2=-1))
    exact = torch.linalg.solve(fisher + ridge, torch.einsum("bckm,bck->bcm", jacobian, wanted - now))
    torch.testing.assert_close(_newton_step(jacobian, now, wanted, 0.02), exact, rtol=1e-7, atol=1e-7)


def test_concepts_raise_what_they_name_and_none_is_without_effect(edit: Edit) -> None:
    generator = torch.Generator().manual_seed(7)
    model = Recommender(RecommenderConfig(hidden=12, heads=2), 60).eval().requires_grad_(False)
    some_N = torch.arange(60) % 3 == 0  # they lie on one side of the space, as items of a genre do
    model.items.weight.copy_(torch.randn(60, 12, generator=generator) + 2 * some_N[:, None] * torch.eye(12)[0])
    states, targets = torch.randn(80, 12, generator=generator), torch.randint(60, (80,), generator=generator)
    people = Audience(model, states, (), torch.ones(80, 60, dtype=torch.bool), targets)
    members = {"Some": some_N, "All": torch.ones(60, dtype=torch.bool)}
    aims = [Aim("genres", value, member_N.float(), member_N) for value, member_N in members.items()]
    graph, table = fit_concepts(edit, aims, people, people, ConceptConfig(terms=8))
    assert isinstance(graph, SolvedConcepts)
    some, everything = table.iter_rows(named=True)
    assert some["share_after"] > some["share_before"] + 0.15
    assert everything["share_before"] == 1
    assert bool((graph.tilts_X > 0).all())


def test_a_feature_that_moves_no_candidate_is_left_alone() -> None:
    jacobian, now = torch.randn(1, 1, 9, 3).double(), torch.full((1, 1, 9), 1 / 9).double()
    jacobian[..., 1] = 0
    step_BCM = _newton_step(jacobian, now, torch.randn(1, 1, 9).double().softmax(-1), RIDGE)
    assert step_BCM[0, 0, 1] == 0
    assert bool(step_BCM.isfinite().all())


@given(st.integers(0, 5000), st.integers(1, 200), st.integers(1, 200))
def test_window_moves_in_strides_and_never_outgrows_its_length(events: int, length: int, stride: int) -> None:
    stride = min(stride, length)
    start = window_start(events, length, stride)
    assert start % stride == 0
    assert min(events, length - stride + 1) <= events - start <= length


def _states() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(torch.randn(24, 12, generator=generator), dim=1)
    active = torch.rand(4000, 24, generator=generator) < 0.1
    return (active * torch.rand(4000, 24, generator=generator)) @ directions + 0.5


def test_autoencoder_explains_sparse_states_with_unit_rows_and_few_features() -> None:
    sae = train_sae(
        _states(), SaeConfig(features=48, active=8, epochs=20, batch_size=128, dead_after=4000), lambda *_: None
    )
    figures = measure_sae(sae, _states())
    assert figures["variance_explained"] > 0.85
    assert figures["dead"] < 0.1
    assert figures["active"] <= 8
    np.testing.assert_allclose(sae.decoder_FD.norm(dim=1), 1, rtol=1e-5)
