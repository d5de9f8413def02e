"""Ways of steering, for comparison: concepts and features, score boosting, fixed directions, single neurons.

Dimensions: B users, D hidden, F features, U units (features, neurons or other directions), N items.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit
from steersman_training.catalogue.steering import Audience, Concepts, SteeredLists


class Steer(Protocol):
    """The lists of some users at a strength. Strength 0 does not change them, unless an implementation says otherwise."""

    def __call__(self, people: Audience, strength: float, /) -> SteeredLists: ...


def by_concept(edit: Edit, concepts: Concepts, concept: int) -> Steer:
    """A concept, resolved for each user: its anchored feature, as strong as each needs it."""
    feature = int(concepts.features_X[concept])
    along = by_feature(edit, feature)
    return lambda people, strength: along(people, people.concept_strengths(edit, concepts, concept, strength))


def by_feature(edit: Edit, feature: int) -> "Along":
    """One feature; strength 1 is its natural maximum."""
    return Along(feature_directions(edit)[feature])


def in_units(steer: Steer, up: float, down: float) -> Steer:
    """The same control at a caller's strengths: `up` and `down` are what 1 and -1 are in its own unit."""
    return lambda people, strength: steer(people, strength * (up if strength > 0 else down))


def by_direction(direction_D: Tensor) -> "Along":
    """The same vector added to every user's state."""
    return Along(direction_D)


class Along:
    """Every state moved along one direction, by one strength or by one for each user (B,)."""

    def __init__(self, direction_D: Tensor) -> None:
        self.direction_D = direction_D

    def __call__(self, people: Audience, strength: float | Tensor, /) -> SteeredLists:
        return people.along(self.direction_D, strength)


def by_boost(bias_N: Tensor) -> Steer:
    """A bias on scores: of ones on an attribute's items, it is the cheapest way to raise their share; strength in nats.

    Of all distributions over items with that share, the tilted one is closest to the user's own. With minus the logarithm of popularity
    it is the popularity penalty.
    """
    bias_N = bias_N.float()
    return lambda people, strength: people.moved(torch.full_like(people.h_BD[:, 0], strength), bias_N)


def opposite(steer: Steer) -> Steer:
    """The same control with its sign turned: towards the tail, for one that raises popularity."""
    return lambda people, strength: steer(people, -strength)


def difference_of_means(h_SD: Tensor, member_S: Tensor) -> Tensor:
    """Mean state before an item that has the attribute, less the mean before one that has not. (D,)

    Zero where a side is empty. (Marks & Tegmark, arXiv 2310.06824, call it the mass-mean direction.)
    """
    if not bool(member_S.any()) or bool(member_S.all()):
        return torch.zeros_like(h_SD[0])
    return h_SD[member_S].mean(0) - h_SD[~member_S].mean(0)


def fit_direction(people: Audience, member_N: Tensor, tilt: float, steps: int = 25) -> Tensor:
    """The best fixed direction: of all vectors, that whose addition to every state comes closest to boosting by `tilt` nats. (D,)

    Minimises the mean over users of KL(softmax(s + tilt * member) || softmax(s of the shifted state)) by L-BFGS; the problem is convex
    where scores are linear in the state.
    """
    with torch.no_grad():
        wanted_BN = people.log_probabilities(people.h_BD, tilt * member_N.float()).exp()
    direction_D = torch.zeros_like(people.h_BD[0], requires_grad=True)
    optimiser = torch.optim.LBFGS([direction_D], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> float:
        loss = -(wanted_BN * people.log_probabilities(people.h_BD + direction_D)).sum(-1).mean()
        (direction_D.grad,) = torch.autograd.grad(loss, direction_D)
        return float(loss.detach())

    optimiser.step(closure)
    return direction_D.detach()


class Unit(NamedTuple):
    """A direction that may be turned up alone, and the strength at which that is a step of Fisher length 1."""

    number: int
    step: float


def lengths(directions_UD: Tensor, fisher_DD: Tensor) -> Tensor:
    """Fisher length of each direction. (U,)"""
    return ((directions_UD @ fisher_DD) * directions_UD).sum(1).clamp_min(0).sqrt()


def strongest(directions_UD: Tensor, pull_D: Tensor, fisher_DD: Tensor, count: int) -> list[Unit]:
    """Units that raise an attribute most for how far they move the lists, best first, to first order; only those that raise it."""
    lengths_U = lengths(directions_UD, fisher_DD)
    gain_U = (directions_UD @ pull_D) / lengths_U.clamp_min(1e-12)  # 0 for a dead feature, which moves nothing
    best = gain_U.topk(min(count, len(gain_U)))
    return [
        Unit(unit, 1 / float(lengths_U[unit]))
        for unit, gain in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        if gain > 0
    ]


def feature_directions(edit: Edit) -> Tensor:
    """What strength 1 of each feature adds to the state. (F, D)"""
    return edit.scale_F[:, None] * edit.sae.decoder_FD


def neuron_directions(hidden: int) -> Tensor:
    """Each dimension of the state turned up, and then each turned down. (2 D, D)"""
    eye_DD = torch.eye(hidden)
    return torch.cat([eye_DD, -eye_DD])
