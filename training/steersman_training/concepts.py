"""Concepts: for each attribute value, a sparse signed set of features that raises it in the lists at the least cost.

Dimensions: X concepts, M terms, B users, D hidden, F features, N items, V attribute values.
"""

from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from steersman_training.attributes import AttributeValues
from steersman_training.edit import Edit
from steersman_training.graphs import FixedConcepts
from steersman_training.steering import Audience, boost_to_share


@dataclass(frozen=True)
class ConceptConfig:
    """How concepts are fitted."""

    terms: int = 32
    """M, features of a concept at most."""
    rise: float = 0.30
    """What strength 1 adds to the value's share of the top ten, measured on validation users (less where it is common already)."""
    steps: int = 160
    """Steps of Adam; after half of them only the `terms` largest weights stay."""
    users: int = 48
    """Users in a step."""
    learning_rate: float = 0.1
    """Of Adam."""
    seed: int = 0
    """Of the users drawn."""


def target_share(before: float, rise: float) -> float:
    """The share wanted at strength 1; never more than nine tenths of a list."""
    return max(min(before + rise, 0.9), before)


def fit_concepts(
    edit: Edit, values: AttributeValues, learners: Audience, people: Audience, config: ConceptConfig
) -> tuple[FixedConcepts, pl.DataFrame]:
    """The concept graph, and concepts.parquet: one row an attribute value, in the order of `values`.

    Weights are fitted on `learners`; their common factor, and the effect that the table states, are measured on `people`.
    """
    if not values.names:
        return FixedConcepts(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1)), pl.DataFrame(schema=_SCHEMA)
    device = edit.scale_F.device
    member_VN = values.member_VN.to(device)
    goals_V = [target_share(people.plain.share(member_N), config.rise) for member_N in member_VN]
    tilts_V = torch.tensor(
        [boost_to_share(people, member_N, goal)[0] for member_N, goal in zip(member_VN, goals_V, strict=True)]
    )
    weights_VF = _fit_weights(edit, member_VN, tilts_V.to(device), learners, config)
    features_VM = weights_VF.abs().topk(min(config.terms, weights_VF.shape[1]), dim=1).indices
    weights_VM = weights_VF.gather(1, features_VM)
    rows = []
    for value, (attribute, name) in enumerate(values.names):
        weights_VM[value] *= _calibrate(
            edit, features_VM[value], weights_VM[value], member_VN[value], people, goals_V[value]
        )
        steered = people.steered(edit, features_VM[value], weights_VM[value])
        kept_M = weights_VM[value] != 0
        rows.append(
            {
                "name": f"{attribute}:{name}",
                "attribute": attribute,
                "value": name,
                "features": features_VM[value][kept_M].tolist(),
                "weights": weights_VM[value][kept_M].tolist(),
                "share_before": people.plain.share(member_VN[value]),
                "share_after": steered.share(member_VN[value]),
                "ndcg_kept": steered.ndcg / max(people.plain.ndcg, 1e-9),
            }
        )
    return FixedConcepts(features_VM, weights_VM), pl.DataFrame(rows, schema=_SCHEMA)


_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "name": pl.String,
    "attribute": pl.String,
    "value": pl.String,
    "features": pl.List(pl.Int32),
    "weights": pl.List(pl.Float32),
    "share_before": pl.Float32,
    "share_after": pl.Float32,
    "ndcg_kept": pl.Float32,
}


def _fit_weights(edit: Edit, member_VN: Tensor, tilts_V: Tensor, learners: Audience, config: ConceptConfig) -> Tensor:
    """Weights (V, F) that bring the steered distribution over items closest to the one that score boosting gives.

    Minimises the mean over users of KL(softmax(s + tilt * member) || softmax(s steered)): boosting is the cheapest way to raise a known
    attribute, so its distribution is what the edit should imitate. Iterative hard thresholding keeps the largest weights.
    """
    generator = torch.Generator().manual_seed(config.seed)
    directions_FD = edit.scale_F[:, None] * edit.sae.decoder_FD
    weights_VF = torch.zeros(len(member_VN), len(directions_FD), device=tilts_V.device, requires_grad=True)
    optimiser = torch.optim.Adam([weights_VF], lr=config.learning_rate)
    kept_VF = (edit.scale_F > 0).expand_as(weights_VF)
    bias_VN = tilts_V[:, None] * member_VN
    for step in range(config.steps):
        if step == config.steps // 2:
            kept_VF = _largest(weights_VF.detach(), config.terms)
        drawn = torch.randint(len(learners.h_BD), (config.users,), generator=generator)
        loss = _divergence(learners.take(drawn.to(tilts_V.device)), (weights_VF * kept_VF) @ directions_FD, bias_VN)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return weights_VF.detach() * kept_VF


def _divergence(people: Audience, direction_VD: Tensor, bias_VN: Tensor) -> Tensor:
    """Cross-entropy of each value's boosted distribution and the one steered along its direction, summed over values."""
    total = direction_VD.new_zeros(())
    for direction_D, bias_N in zip(direction_VD, bias_VN, strict=True):
        with torch.no_grad():
            wanted_BN = people.log_probabilities(people.h_BD, bias_N).exp()
        total = total - (wanted_BN * people.log_probabilities(people.h_BD + direction_D)).sum(-1).mean()
    return total


def _largest(weights_VF: Tensor, count: int) -> Tensor:
    rows_VM = weights_VF.abs().topk(min(count, weights_VF.shape[1]), dim=1).indices
    return torch.zeros_like(weights_VF, dtype=torch.bool).scatter(1, rows_VM, True)


def _calibrate(
    edit: Edit, features_M: Tensor, weights_M: Tensor, member_N: Tensor, people: Audience, goal: float
) -> float:
    """The factor at which strength 1 reaches the goal, or the one that comes closest, by bisection."""
    low, high = 0.0, 16.0
    for _ in range(12):
        middle = (low + high) / 2
        reached = people.steered(edit, features_M, weights_M, strength=middle).share(member_N)
        low, high = (middle, high) if reached < goal else (low, middle)
    return high
