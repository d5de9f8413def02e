"""The effect of a control on the lists, by strength, and its cost at a share that every method reaches.

Dimensions: B users, P strengths, V attribute values, N items, K = 10 items of a list.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from steersman_training.catalogue.steering import Audience, SteeredLists
from steersman_training.evaluation.bootstrap import Interval, bootstrap, ratio
from steersman_training.evaluation.control.baselines import Steer, by_boost
from steersman_training.evaluation.overlap import rbo

TILTS = (-8.0, -6.0, -4.5, -3.5, -2.5, -1.75, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5, 8.0)
"""Nats by which an attribute is boosted to measure which others rise with it."""
GROWTH = 1.6
"""Ratio of consecutive strengths tried."""
TRIES = 10
"""Number of strengths: the last is 69 times the first."""
TOLERANCE = 0.004
"""How far above its goal a share may be; the same for all methods, so that it affects ratios less than figures."""


@dataclass(frozen=True)
class SteeringPath:
    """The lists of some users under one control, each strength computed once."""

    people: Audience
    steer: Steer
    cache: dict[float, SteeredLists] = field(default_factory=dict)

    def at(self, strength: float) -> SteeredLists:
        if strength not in self.cache:
            self.cache[strength] = self.steer(self.people, strength)
        return self.cache[strength]

    def kept(self, strength: float) -> float:
        """NDCG@10 as a multiple of that without control."""
        return self.at(strength).ndcg / max(self.people.plain.ndcg, 1e-9)


def reach(
    value_at: Callable[[float], float], goal: float, first: float, *, tolerance: float = TOLERANCE, tries: int = TRIES
) -> float | None:
    """The least strength at which a value reaches its goal, within `tolerance` above it where the value moves in small steps.

    Tries strengths from `first` on, each GROWTH times the one before, and bisects between the first that reaches the goal and the one
    below it: values may fall again beyond. None if no strength tried reaches it; 0 if nothing needs doing.
    """
    low, low_value = 0.0, value_at(0.0)
    if low_value >= goal:
        return 0.0
    high = first
    for _ in range(tries):
        high_value = value_at(high)
        if high_value >= goal:
            break
        low, low_value = high, high_value
        high *= GROWTH
    else:
        return None
    for _ in range(10):
        if high_value - goal <= tolerance:
            break
        # The chord's guess, away from the ends: where the value is not straight, this is plain bisection at worst.
        part = min(max((goal - low_value) / (high_value - low_value), 0.1), 0.9)
        middle = low + part * (high - low)
        value = value_at(middle)
        low, low_value, high, high_value = (
            (low, low_value, middle, value) if value >= goal else (middle, value, high, high_value)
        )
    return high


@dataclass(frozen=True)
class Matched:
    """The cost of a method when it has brought an attribute's share to a goal."""

    method: str
    goal: float
    """Share of the top ten that was to be reached."""
    strength: float | None
    """The least that reaches it. None: none of those tried does, and the figures are those of the largest share met."""
    share: float
    kept: Interval
    """NDCG@10 as a multiple of that without control."""
    to_boost: Interval | None
    """NDCG@10 as a multiple of score boosting's at the same goal, over the same users. None where one of them does not reach it."""

    @property
    def reached(self) -> bool:
        return self.strength is not None


def matched(
    method: str, path: SteeringPath, member_N: Tensor, goal: float, first: float, boosted: SteeredLists | None
) -> tuple[Matched, SteeredLists]:
    """Searches a path for a goal. `boosted`: score boosting's lists at that goal; None if it does not reach it or if this is it."""
    strength = reach(lambda at: path.at(at).share(member_N), goal, first)
    furthest = max(path.cache.values(), key=lambda lists: lists.share(member_N))
    lists = furthest if strength is None else path.at(strength)
    kept = bootstrap([lists.ndcg_B, path.people.plain.ndcg_B], ratio)
    beside = None if strength is None or boosted is None else bootstrap([lists.ndcg_B, boosted.ndcg_B], ratio)
    return Matched(method, goal, strength, lists.share(member_N), kept, beside), lists


@dataclass(frozen=True)
class AtLoss:
    """An attribute's share when a control has cost a given part of NDCG@10."""

    strength: float | None
    """The least that costs as much. None: none of those tried does, and the figures are those of the largest."""
    kept: float
    base_share: float
    share: float

    @property
    def multiplied(self) -> float:
        """The share as a multiple of that without control."""
        return self.share / max(self.base_share, 1e-9)


def at_loss(path: SteeringPath, member_N: Tensor, first: float, loss: float) -> AtLoss:
    """Searches a path for a loss."""
    found = reach(lambda at: 1 - path.kept(at), loss, first)
    strength = max(path.cache) if found is None else found
    return AtLoss(found, path.kept(strength), path.people.plain.share(member_N), path.at(strength).share(member_N))


@dataclass(frozen=True)
class CoOccurrence:
    """Shares of other attributes as one is boosted, to be explained by the items that they have in common."""

    member_VN: Tensor
    own: int
    """The attribute that is boosted, among the V."""
    shares_PV: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    """Shares of all of them at TILTS."""

    @staticmethod
    def of(people: Audience, member_VN: Tensor, own: int) -> "CoOccurrence":
        boost = by_boost(member_VN[own])
        return CoOccurrence(member_VN, own, np.stack([_shares(boost(people, tilt), member_VN) for tilt in TILTS]))

    def drift(self, lists: SteeredLists) -> float:
        """How far the other attributes' shares are from where boosting to the same share takes them, summed over attributes."""
        shares_V = _shares(lists, self.member_VN)
        own_P = self.shares_PV[:, self.own]
        expected_V = [np.interp(shares_V[self.own], own_P, column) for column in self.shares_PV.T]
        others_V = np.arange(len(shares_V)) != self.own
        return float(np.abs(shares_V - expected_V)[others_V].sum())


def _shares(lists: SteeredLists, member_VN: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    counts_N = torch.bincount(lists.rows_BK.flatten(), minlength=member_VN.shape[1]).double()
    return (member_VN.double() @ counts_N / counts_N.sum()).cpu().numpy()


@dataclass(frozen=True)
class Point:
    """The lists at one strength, beside those without control."""

    strength: float
    share: Interval
    """Of the attribute in the top ten, mean over users."""
    share_sd: float
    """Standard deviation over users of the change of their share."""
    kept: Interval
    """NDCG@10 as a multiple of that without control."""
    kept_takers: Interval | None
    """The same among users whose held-out item has the attribute: it should rise with the strength. None where there are none."""
    overlap: float
    """Share of the top ten that was in it before."""
    rbo: float
    """Rank-biased overlap with the list before (`overlap.rbo`)."""
    drift: float
    """Off target: see CoOccurrence.drift."""
    log_popularity: float
    """Change of the mean log popularity of the items listed."""


@dataclass(frozen=True)
class Curve:
    """A control over strengths."""

    name: str
    points: list[Point]
    monotonicity: float
    """Spearman correlation of the mean share with the strength."""
    monotonicity_users: float
    """Mean over users of the Spearman correlation of their own share; 0 for a user whose share never moves."""

    @property
    def rises(self) -> bool:
        """Whether the mean share falls in no step from strength 0 up, and rises over all of them."""
        shares = [point.share.value for point in self.points if point.strength >= 0]
        return all(a <= b for a, b in pairwise(shares)) and shares[0] < shares[-1]


def measure_curve(
    name: str, path: SteeringPath, strengths: list[float], co_occurrence: CoOccurrence, log_popularity_N: Tensor
) -> Curve:
    """Follows a control over strengths, in ascending order."""
    member_N = co_occurrence.member_VN[co_occurrence.own]
    points = [_point(path, strength, co_occurrence, log_popularity_N) for strength in strengths]
    shares_BP = torch.stack([path.at(strength).share_B(member_N) for strength in strengths], dim=1)
    strengths_P = torch.tensor(strengths, dtype=torch.float64)
    together = float(spearman(shares_BP.mean(0, keepdim=True), strengths_P))
    return Curve(name, points, together, float(spearman(shares_BP, strengths_P).mean()))


def _point(path: SteeringPath, strength: float, co_occurrence: CoOccurrence, log_popularity_N: Tensor) -> Point:
    member_N = co_occurrence.member_VN[co_occurrence.own]
    before, after = path.people.plain, path.at(strength)
    share_B = after.share_B(member_N)
    takes_B = member_N[path.people.targets_B]
    popularity_before, popularity_after = (log_popularity_N[lists.rows_BK].mean() for lists in (before, after))
    return Point(
        strength,
        bootstrap([share_B]),
        float((share_B - before.share_B(member_N)).std(correction=0)),
        bootstrap([after.ndcg_B, before.ndcg_B], ratio),
        bootstrap([after.ndcg_B * takes_B, before.ndcg_B * takes_B], ratio)
        if float((before.ndcg_B * takes_B).sum()) > 0
        else None,
        float(overlap(before.rows_BK, after.rows_BK).mean()),
        float(rbo(before.rows_BK, after.rows_BK).mean()),
        co_occurrence.drift(after),
        float(popularity_after - popularity_before),
    )


def overlap(one_BK: Tensor, other_BK: Tensor) -> Tensor:
    """Share of one list that is in the other. (B,)"""
    return (one_BK[:, :, None] == other_BK[:, None, :]).any(2).double().mean(1)


def spearman(values_BP: Tensor, by_P: Tensor) -> Tensor:
    """Rank correlation of each row with `by_P`, mean ranks where entries are equal; 0 for a row that is all equal. (B,)"""
    ranks_BP, ranks_P = _mean_ranks(values_BP), _mean_ranks(by_P[None].to(values_BP.device))
    centred_BP, centred_1P = (ranks - ranks.mean(1, keepdim=True) for ranks in (ranks_BP, ranks_P))
    norms_B = centred_BP.norm(dim=1) * centred_1P.norm(dim=1)
    correlation_B: Tensor = (centred_BP * centred_1P).sum(1) / norms_B.clamp_min(1e-12)
    return correlation_B


def _mean_ranks(values_BP: Tensor) -> Tensor:
    this, others = values_BP[:, :, None], values_BP[:, None, :]
    return (this > others).double().sum(2) + 0.5 * (this == others).double().sum(2)
