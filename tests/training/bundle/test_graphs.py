"""The graphs as torch modules: the edit, the search and its ties, the window, states at any hook."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steersman_training.autoencoder.edit import Edit, natural_scale
from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.bundle.graphs import (
    MOST_STRENGTH,
    MOST_TILT,
    ConceptEdits,
    FixedConcepts,
    Lower,
    OnnxSearch,
    Search,
    SolvedConcepts,
    Upper,
    _taper,
)
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


def test_fixed_concepts_come_down_to_adds_of_bounded_strength() -> None:
    graph = FixedConcepts(torch.tensor([40, 41]), torch.tensor([1.5, 3.0]))
    features, gains, edits = graph(torch.tensor([[1, 0, 1]]), torch.tensor([[2.0, -0.5, 10.0]]))
    assert features.tolist() == [[41, 40, 41]]
    assert gains.tolist() == [[1.0] * 3]
    assert edits.tolist() == [[6.0, -0.75, MOST_STRENGTH]]


TILT = 1.5


class Solvable:
    """Twenty users, thirty items of which every third has the value, and one concept."""

    def __init__(self, edit: Edit, candidates: int = 256) -> None:
        generator = torch.Generator().manual_seed(5)
        self.edit = edit
        self.items_ND, self.biases_N = torch.randn(30, 12, generator=generator), torch.randn(30, generator=generator)
        self.member_N = torch.arange(30) % 3 == 0
        feature_1 = (edit.scale_F > 0).nonzero()[0]
        # What has the value lies along the feature, more or less.
        self.items_ND[self.member_N] += 1.5 * edit.sae.decoder_FD[feature_1]
        self.graph = SolvedConcepts(edit, feature_1, self.member_N.float()[None], torch.tensor([TILT]), candidates)
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


class Solved(NamedTuple):
    """Cases of one concept each, with what it was solved to."""

    scores_BK: Tensor
    jacobian_BK: Tensor
    lean_BK: Tensor
    tilts_B: Tensor
    weights_B: Tensor

    def objective(self, weights_BG: Tensor) -> Tensor:
        """t E_q[lean] - KL(q || p) at any strengths of the feature, (B, G)."""
        p_B1K = self.scores_BK.log_softmax(-1).unsqueeze(1)
        q_BGK = (self.scores_BK.unsqueeze(1) + weights_BG.unsqueeze(-1) * self.jacobian_BK.unsqueeze(1)).log_softmax(-1)
        gained_BGK = (self.tilts_B.unsqueeze(-1) * self.lean_BK).unsqueeze(1) - (q_BGK - p_B1K)
        return (q_BGK.exp() * gained_BGK).sum(-1)

    def best(self) -> Tensor:
        """The most that the objective can be, (B,): on a fine grid, then by golden section beside its best point."""
        grid_G = torch.linspace(0, MOST_STRENGTH, 1601).double()
        grid_BG = self.tilts_B.sign().unsqueeze(-1) * grid_G
        at_B1 = torch.cat([self.objective(part) for part in grid_BG.split(100, dim=1)], 1).argmax(1, keepdim=True)
        low_B, high_B = (grid_BG.gather(1, (at_B1 + by).clamp(0, len(grid_G) - 1)).squeeze(1) for by in (-1, 1))
        golden = (5**0.5 - 1) / 2
        for _ in range(30):
            inner_B2 = torch.stack([high_B - golden * (high_B - low_B), low_B + golden * (high_B - low_B)], 1)
            left_B = self.objective(inner_B2).diff(dim=1).squeeze(1) < 0
            low_B, high_B = torch.where(left_B, low_B, inner_B2[:, 0]), torch.where(left_B, inner_B2[:, 1], high_B)
        return self.objective(low_B.unsqueeze(1)).squeeze(1)


def solved(seed: int, cases: int, items: int, strengths: tuple[float, ...], *, numeric: bool) -> Solved:
    """Random items, of which those with the value lie along the feature, more or less; its scale is another one in each call."""
    generator = torch.Generator().manual_seed(seed)
    edit = Edit(SparseAutoencoder(8, 1, 1).requires_grad_(False), torch.rand(1, generator=generator) + 0.5)
    direction_D = edit.scale_F * edit.sae.decoder_FD[0]
    lean_N = (torch.rand(items, generator=generator) < 0.2).float()
    if numeric:
        lean_N = torch.randn(items, generator=generator).clamp(-3, 3)
    items_ND = torch.randn(items, 8, generator=generator) + 0.7 * lean_N[:, None] * edit.sae.decoder_FD[0]
    scores_BK = 2 * torch.randn(cases, items, generator=generator)
    graph = SolvedConcepts(edit, torch.tensor([0]), lean_N[None], torch.tensor([TILT]), items)
    strengths_B1 = torch.tensor(strengths).repeat(cases)[:cases].unsqueeze(1)
    rows_BK, concepts_B1 = torch.arange(items).expand(cases, -1), torch.zeros(cases, 1, dtype=torch.int64)
    edits = graph(rows_BK, scores_BK, items_ND, concepts_B1, strengths_B1)
    jacobian_BK, lean_BK = ((items_ND @ direction_D).expand(cases, -1), lean_N.expand(cases, -1))
    tilts_B1 = (TILT * strengths_B1).clamp(-MOST_TILT, MOST_TILT)
    numbers = (scores_BK, jacobian_BK, lean_BK, tilts_B1[:, 0], edits.concept_edits_BE[:, 0])
    return Solved(*(part.double() for part in numbers))


@given(seed=st.integers(0, 2**31), items=st.integers(20, 80), numeric=st.booleans())
@settings(deadline=None, max_examples=15)
def test_a_concept_is_as_strong_as_is_best(seed: int, items: int, numeric: bool) -> None:
    case = solved(seed, 60, items, (-0.7, -0.3, 0.3, 0.7), numeric=numeric)
    before_B, got_B, best_B = (
        case.objective(torch.zeros(60, 1))[:, 0],
        case.objective(case.weights_B[:, None])[:, 0],
        case.best(),
    )
    missed_B = (best_B - got_B) / (best_B - before_B + 0.01)
    assert float(missed_B.quantile(0.9)) < 0.01  # in the rest there may be two maxima, and it is at the nearer one


def test_a_strong_concept_does_not_overshoot() -> None:
    """By the curvature at hand: steps as long as the slope over the variance alone miss more than twice as much."""
    missed = []
    for seed in range(4):
        case = solved(seed, 60, 40, (-2.0, 2.0), numeric=bool(seed % 2))
        before_B, got_B = case.objective(torch.zeros(60, 1))[:, 0], case.objective(case.weights_B[:, None])[:, 0]
        missed.append(((case.best() - got_B) / (case.best() - before_B + 0.01)).mean())
    assert float(torch.stack(missed).mean()) < 0.04


@given(seed=st.integers(0, 2**31), items=st.integers(2, 80), numeric=st.booleans(), strength=st.floats(0.01, 10))
@settings(deadline=None, max_examples=40)
def test_a_concept_gains_by_a_strength_of_its_sign(seed: int, items: int, numeric: bool, strength: float) -> None:
    case = solved(seed, 20, items, (strength, -strength), numeric=numeric)
    assert bool((case.weights_B * case.tilts_B >= 0).all())
    assert bool((case.weights_B.abs() <= MOST_STRENGTH).all())
    gained_B1 = case.objective(case.weights_B[:, None]) - case.objective(torch.zeros(20, 1))
    assert float(gained_B1.min()) > -0.02 * case.tilts_B.abs().max()


def test_a_concept_raises_what_has_its_value_for_every_user(edit: Edit) -> None:
    case = Solvable(edit)

    def share(h_BD: Tensor) -> Tensor:
        scores_BK = (h_BD @ case.items_ND.T + case.biases_N).gather(1, case.candidates_BK)
        return (scores_BK.softmax(1) * case.member_N[case.candidates_BK]).sum(1)

    before_B = share(case.h_BD)
    assert bool((share(case.solve([1.0])) >= before_B).all())
    assert bool((share(case.solve([-1.0])) <= before_B).all())
    assert share(case.solve([1.0])).mean() > before_B.mean() + 0.05


def _twins(case: Solvable) -> None:
    """An item and another that differs from it in the value alone are all that may be returned."""
    case.items_ND[1] = case.items_ND[0]
    case.candidates_BK[:, :2] = torch.tensor([0, 1])
    case.scores_BK[:, 2:] = -math.inf


def _one(case: Solvable) -> None:
    case.scores_BK[:, 1:] = -math.inf


def _none(case: Solvable) -> None:
    case.scores_BK[:] = -math.inf


def _equal(case: Solvable) -> None:
    case.scores_BK[:] = 1.0


def _far(case: Solvable) -> None:
    case.items_ND *= 1e4


@pytest.mark.parametrize("strength", [-10.0, -1.0, 1.0, 10.0])
@pytest.mark.parametrize("candidates", [25, 256])
@pytest.mark.parametrize("kind", [_twins, _one, _none, _equal, _far])
def test_a_concept_is_bounded_whatever_the_candidates_are(
    edit: Edit, kind: Callable[[Solvable], None], candidates: int, strength: float
) -> None:
    case = Solvable(edit, candidates)
    kind(case)
    weights_B = case.edits([strength]).concept_edits_BE[:, 0]
    assert bool((weights_B.abs() <= MOST_STRENGTH).all())  # so it is a number, too
    assert bool((weights_B * strength >= 0).all())
    if kind in (_twins, _one):  # nothing tells what there is apart
        assert bool((weights_B == 0).all())


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
    case = Solvable(edit, 25)
    for rows in (slice(None), slice(0, 1), slice(1, 2), slice(2, 3)):
        edits_BC = case.edits(strengths, rows).concept_edits_BE
        for place, strength in enumerate(strengths):
            assert bool((edits_BC[:, place] != 0).any() if strength else (edits_BC[:, place] == 0).all())


@pytest.mark.parametrize("strength", [-10.0, -1.0, 1.0, 10.0])
def test_a_concept_that_no_candidate_has_comes_down_to_no_edits(edit: Edit, strength: float) -> None:
    case, whole = Solvable(edit, 10), Solvable(edit, 30)
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
    case = Solvable(edit, count)
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
    case = Solvable(edit, 12)
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
    case, fewer = Solvable(edit, 30), Solvable(edit, 29)
    scores_BN = case.h_BD @ case.items_ND.T + case.biases_N
    case.choose(scores_BN, 30)
    taper_BK = _taper(case.scores_BK)
    assert bool((taper_BK[:, -1] == 0).all() and (taper_BK[:, 0] == 1).all())
    # One item may not be returned: then 29 of 30 are all that there are, and none of them is cut off.
    scores_BN[:, 4] = -math.inf
    for one in (case, fewer):
        one.choose(scores_BN, 30)
    torch.testing.assert_close(case.edits([1.0]).concept_edits_BE, fewer.edits([1.0]).concept_edits_BE)


@given(st.integers(0, 5000), st.integers(1, 200), st.integers(1, 200))
def test_window_moves_in_strides_and_never_outgrows_its_length(events: int, length: int, stride: int) -> None:
    stride = min(stride, length)
    start = window_start(events, length, stride)
    assert start % stride == 0
    assert min(events, length - stride + 1) <= events - start <= length
