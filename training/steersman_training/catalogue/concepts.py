"""Concepts: for each aim, a sparse signed set of features that raises it in the lists at the least cost.

Dimensions: X concepts, M features of a concept, B users, K candidates, D hidden, F features, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit
from steersman_training.bundle.graphs import FixedConcepts, SolvedConcepts, Solver
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.steering import Audience, Concepts

FIRST_TILT = 2.0  # nats of the tilt for which features are chosen: members of the value become seven times as likely
CALIBRATED_USERS = 60  # on whom strength 1 is calibrated: solving for many takes long
MEASURED_USERS = 150  # on whom the effect of a concept is measured
LEAST_RIDGE = 1e-12  # keeps a system of zeros soluble: if one item has all the probability, nothing changes the scores
FACTORS = (0.25, 0.5, 1.0, 1.5, 2.0)  # tried for strength 1, as multiples of the first guess
MOST_BOOST, BISECTIONS = 20.0, 14
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("name", "attribute", "value"), pl.String),
    "features": pl.List(pl.Int32),
    "weights": pl.List(pl.Float32),
    **dict.fromkeys(("share_before", "share_after", "ndcg_kept"), pl.Float32),
}


@dataclass(frozen=True)
class ConceptConfig:
    """How concepts are fitted."""

    terms: int = 32
    """M, features of a concept at most."""
    candidates: int = 256
    """Best items of a user on which a concept is solved. More of them help where a value has few items."""
    ridge: float = 0.05
    """Of that solution. Smaller ones reach further, with strengths that are less natural."""
    rise: float = 0.30
    """What strength 1 adds to the value's share of the top ten, measured on validation users (less where it is common already)."""
    learners: int = 200
    """Users on whom a concept's features are chosen, where it is solved for the state at hand."""
    steps: int = 160
    """Steps of Adam for fixed weights (below the last block); after half of them only the `terms` largest weights stay."""
    users: int = 48
    """Users in such a step."""
    learning_rate: float = 0.1
    """Of Adam."""
    seed: int = 0
    """Of the users drawn."""


def target_share(before: float, rise: float) -> float:
    """The share wanted at strength 1; never more than nine tenths of a list."""
    return max(min(before + rise, 0.9), before)


def fit_concepts(
    edit: Edit,
    aims: list[Aim],
    learners: Audience,
    people: Audience,
    config: ConceptConfig,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Concepts, pl.DataFrame]:
    """The concept graph, and concepts.parquet: one row an aim, in their order.

    Features are chosen on `learners`; strength 1 is calibrated, and the effect measured, on `people`. If the state is the query, a
    concept is solved for the state at hand; below the last block its weights are fixed. `report` is called with the number of
    concepts done, and of all.
    """
    if not aims:
        return FixedConcepts(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1)), pl.DataFrame(schema=SCHEMA)
    device = edit.scale_F.device
    aims = [aim._replace(lean_N=aim.lean_N.to(device), member_N=aim.member_N.to(device)) for aim in aims]
    concepts = (_fixed if people.context else _solved)(edit, aims, learners, people, config)
    some, measured = (
        people.take(torch.arange(min(count, len(people.h_BD)), device=device))
        for count in (CALIBRATED_USERS, MEASURED_USERS)
    )
    rows = []
    for row, aim in enumerate(aims):
        goal = target_share(some.plain.share(aim.member_N), config.rise)
        concepts.strengthen(row, _calibrate(edit, concepts, row, aim.member_N, some, goal))
        effect = _measure(edit, concepts, row, aim.member_N, measured)
        rows.append({"name": aim.name, "attribute": aim.attribute, "value": aim.value, **effect})
        report(row + 1, len(aims))
    return concepts, pl.DataFrame(rows, schema=SCHEMA)


def _measure(edit: Edit, concepts: Concepts, concept: int, member_N: Tensor, people: Audience) -> dict[str, Any]:
    """The mean weights of the concept's features at strength 1, and its effect on the lists."""
    resolved = people.resolve(concepts, concept, 1.0)
    weights_M = resolved.concept_edits_BE.mean(0)
    kept_M = weights_M != 0
    steered = people.edited(edit, *resolved)
    return {
        "features": resolved.concept_features_BE[0][kept_M].tolist(),
        "weights": weights_M[kept_M].tolist(),
        "share_before": people.plain.share(member_N),
        "share_after": steered.share(member_N),
        "ndcg_kept": steered.ndcg / max(people.plain.ndcg, 1e-9),
    }


def _calibrate(edit: Edit, concepts: Concepts, concept: int, member_N: Tensor, people: Audience, goal: float) -> float:
    """The least strength that reaches the goal, interpolated between those that are tried, or the one that comes closest.

    No bisection, since shares may fall again at strengths beyond the features' reach. Never zero: a value of all items can still be
    turned down.
    """
    best = below = (0.0, people.plain.share(member_N))
    for strength in FACTORS:
        share = people.edited(edit, *people.resolve(concepts, concept, strength)).share(member_N)
        if share >= goal:
            between = below[0] + (strength - below[0]) * (goal - below[1]) / max(share - below[1], 1e-9)
            return max(between, FACTORS[0])
        below = (strength, share)
        best = max(best, below, key=lambda pair: pair[1])
    return max(best[0], FACTORS[0])


def _solved(edit: Edit, aims: list[Aim], learners: Audience, people: Audience, config: ConceptConfig) -> SolvedConcepts:
    device = edit.scale_F.device
    some = learners.take(torch.arange(min(config.learners, len(learners.h_BD)), device=device))
    features_XM = torch.stack([_pursue(edit, some, aim.lean_N, config) for aim in aims])
    tilts_X, leans_XN = torch.full((len(aims),), FIRST_TILT, device=device), torch.stack([aim.lean_N for aim in aims])
    return SolvedConcepts(edit, features_XM, leans_XN, tilts_X, Solver(config.candidates, config.ridge))


@torch.no_grad()
def _pursue(edit: Edit, people: Audience, lean_N: Tensor, config: ConceptConfig) -> Tensor:
    """The features that together come closest to a tilt by `lean_N`, each user weighing them as needed. (M,)

    Simultaneous orthogonal matching pursuit (Tropp et al. 2006) in the Fisher metric of each user, over all living features.
    """
    directions_FD = edit.scale_F[:, None] * edit.sae.decoder_FD
    candidates_BK = people.candidates_BK[:, : config.candidates]
    items_BKD = people.model.items.weight[candidates_BK]
    scores_BK = (items_BKD @ people.h_BD[..., None])[..., 0] + people.model.biases[candidates_BK]
    tilts_BK = FIRST_TILT * lean_N[candidates_BK]
    metric_BK1 = 0.5 * (scores_BK.softmax(-1) + (scores_BK + tilts_BK).softmax(-1))[..., None]
    centred_BKD = items_BKD - (metric_BK1 * items_BKD).sum(1, keepdim=True)
    fisher_BDD = centred_BKD.mT @ (metric_BK1 * centred_BKD)
    wanted_BD = (centred_BKD.mT @ (metric_BK1 * tilts_BK[..., None]))[..., 0]
    image_BFD = directions_FD @ fisher_BDD
    curvature_BF = (image_BFD * directions_FD).sum(-1)
    terms = min(config.terms, int((edit.scale_F > 0).sum()))
    gram_BMM = fisher_BDD.new_zeros(len(fisher_BDD), terms, terms)
    chosen: list[int] = []
    left_BD = wanted_BD
    for term in range(terms):
        gain_F = ((left_BD @ directions_FD.T).square() / curvature_BF.clamp_min(1e-9)).mean(0)
        gain_F[edit.scale_F == 0] = -1
        gain_F[chosen] = -1
        chosen.append(int(gain_F.argmax()))
        basis_MD = directions_FD[chosen]
        gram_BMM[:, term, : term + 1] = gram_BMM[:, : term + 1, term] = image_BFD[:, chosen[-1]] @ basis_MD.T
        fisher_BMM = gram_BMM[:, : term + 1, : term + 1].clone()
        ridge_B = (config.ridge * fisher_BMM.diagonal(dim1=1, dim2=2).mean(1)).clamp_min(LEAST_RIDGE)
        fisher_BMM.diagonal(dim1=1, dim2=2).add_(ridge_B[:, None])
        weights_BM = torch.linalg.solve(fisher_BMM, wanted_BD @ basis_MD.T)
        left_BD = wanted_BD - ((weights_BM @ basis_MD)[:, None] @ fisher_BDD)[:, 0]
    return torch.tensor(chosen, device=lean_N.device)


def _fixed(edit: Edit, aims: list[Aim], learners: Audience, people: Audience, config: ConceptConfig) -> FixedConcepts:
    bias_XN = torch.stack([_boost(people, aim, config.rise) * aim.lean_N for aim in aims])
    weights_XF = _fit_weights(edit, bias_XN, learners, config)
    features_XM = weights_XF.abs().topk(min(config.terms, weights_XF.shape[1]), dim=1).indices
    return FixedConcepts(features_XM, weights_XF.gather(1, features_XM))


def _boost(people: Audience, aim: Aim, rise: float) -> float:
    """The least multiple of the aim's lean, added to the scores, with which the lists reach its goal; by bisection."""
    goal, low, high = target_share(people.plain.share(aim.member_N), rise), 0.0, MOST_BOOST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        reached = people.lists(tilts_N=middle * aim.lean_N).share(aim.member_N)
        low, high = (middle, high) if reached < goal else (low, middle)
    return high


def _fit_weights(edit: Edit, bias_XN: Tensor, learners: Audience, config: ConceptConfig) -> Tensor:
    """Weights (X, F) that bring the steered distribution over items closest to that of score boosting.

    Minimises the mean over users of KL(softmax(s + bias) || softmax(s steered)): boosting is the cheapest way to raise a known
    attribute. Iterative hard thresholding keeps the largest weights.
    """
    generator = torch.Generator().manual_seed(config.seed)
    directions_FD = edit.scale_F[:, None] * edit.sae.decoder_FD
    weights_XF = torch.zeros(len(bias_XN), len(directions_FD), device=bias_XN.device, requires_grad=True)
    optimiser = torch.optim.Adam([weights_XF], lr=config.learning_rate)
    kept_XF = (edit.scale_F > 0).expand_as(weights_XF)
    for step in range(config.steps):
        if step == config.steps // 2:
            rows_XM = weights_XF.detach().abs().topk(min(config.terms, weights_XF.shape[1]), dim=1).indices
            kept_XF = torch.zeros_like(weights_XF, dtype=torch.bool).scatter(1, rows_XM, True)
        drawn = torch.randint(len(learners.h_BD), (config.users,), generator=generator)
        loss = _divergence(learners.take(drawn.to(bias_XN.device)), (weights_XF * kept_XF) @ directions_FD, bias_XN)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return weights_XF.detach() * kept_XF


def _divergence(people: Audience, direction_XD: Tensor, bias_XN: Tensor) -> Tensor:
    """Cross-entropy of each aim's boosted distribution and the one steered along its direction, summed over aims."""
    total = direction_XD.new_zeros(())
    for direction_D, bias_N in zip(direction_XD, bias_XN, strict=True):
        with torch.no_grad():
            wanted_BN = people.log_probabilities(people.h_BD, bias_N).exp()
        total = total - (wanted_BN * people.log_probabilities(people.h_BD + direction_D)).sum(-1).mean()
    return total
