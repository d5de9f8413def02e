"""How well units of a state, features or neurons, agree with attribute values. Dimensions: S states, U units, V values, N items."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 64  # units that are dense in memory at a time
MIN_ITEM_EVENTS = 5  # states that an item needs before a unit's mean at it counts


def take(units_SU: Tensor, which: Tensor) -> Tensor:
    """Some columns, dense."""
    columns_SU = units_SU.index_select(1, which)
    return columns_SU.to_dense() if columns_SU.is_sparse else columns_SU


def _blocks(units_SU: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """All columns, dense, in blocks, with their indices."""
    for begin in range(0, units_SU.shape[1], BLOCK):
        which = slice(begin, min(begin + BLOCK, units_SU.shape[1]))
        yield which, take(units_SU, torch.arange(which.start, which.stop, device=units_SU.device))


def correlations(units_SU: Tensor, truth_SV: Tensor) -> Tensor:
    """Pearson correlation of each unit with each column of `truth_SV`, numbers or bool; 0 where one of them is constant. (U, V)"""
    y_SV = truth_SV.double()
    y_SV = y_SV - y_SV.mean(0)
    y_SV = y_SV / y_SV.norm(dim=0).clamp_min(1e-12)
    correlation_UV = torch.empty(units_SU.shape[1], y_SV.shape[1], device=y_SV.device)
    for which, block_SU in _blocks(units_SU):
        x_SU = block_SU.double()
        x_SU = x_SU - x_SU.mean(0)
        correlation_UV[which] = ((x_SU.T @ y_SV) / x_SU.norm(dim=0).clamp_min(1e-12)[:, None]).float()
    return correlation_UV.clamp(-1, 1)


class Separation(NamedTuple):
    """How well a unit's activation separates the states of a value from the others."""

    roc_auc_UV: Tensor  # area under the ROC curve, ties counted half; 0.5 if a side is empty
    average_precision_UV: Tensor  # sum over thresholds of gained recall times precision; 0 without positives


def separation(units_SU: Tensor, member_SV: Tensor) -> Separation:
    """Of each unit and each column of `member_SV` (bool). Equal activations are one threshold."""
    member_VS = member_SV.T.contiguous()
    activity_U = torch.full((units_SU.shape[1],), len(units_SU), device=units_SU.device)
    if units_SU.is_sparse:
        activity_U = torch.bincount(units_SU.indices()[1], minlength=units_SU.shape[1])
    order_U = activity_U.argsort(stable=True)  # a block costs as much as its most active unit
    parts = [_separate(take(units_SU, which).T.contiguous(), member_VS) for which in order_U.split(BLOCK)]
    back_U = order_U.argsort()
    return Separation(*(torch.cat(column)[back_U] for column in zip(*parts, strict=True)))


def _separate(x_US: Tensor, member_VS: Tensor) -> tuple[Tensor, Tensor]:
    """States at a unit's minimum (where a feature is silent) are one tie, computed in closed form: only the others are sorted."""
    states = x_US.shape[1]
    above_U = (x_US > x_US.amin(1, keepdim=True)).sum(1)
    sorted_Us = x_US.topk(max(1, int(above_U.max())), dim=1)
    first_Us, last_Us = _ties(sorted_Us.values)
    inside_Us = torch.arange(sorted_Us.values.shape[1], device=x_US.device) < above_U[:, None]
    rank_Us = (first_Us + last_Us).double() / 2 + 1
    auc, precision = [], []
    for member_S in member_VS:
        positives = int(member_S.sum())
        pairs = positives * (states - positives)
        hit_Us = (member_S[sorted_Us.indices] & inside_Us).double()
        silent_U = positives - hit_Us.sum(1)
        rank_sum_U = (hit_Us * rank_Us).sum(1) + silent_U * (above_U + 1 + states) / 2
        ahead_U = rank_sum_U - positives * (positives + 1) / 2
        auc.append(1 - ahead_U / pairs if pairs else torch.full_like(ahead_U, 0.5))
        precision_Us = hit_Us.cumsum(1).gather(1, last_Us) / (last_Us + 1)
        gained_U = (hit_Us * precision_Us).sum(1) + silent_U * positives / states
        precision.append(gained_U / max(positives, 1))
    return torch.stack(auc, 1).float(), torch.stack(precision, 1).float()


def _ties(sorted_Us: Tensor) -> tuple[Tensor, Tensor]:
    """First and last place of the run of equal entries of each entry."""
    place_Us = torch.arange(sorted_Us.shape[1], device=sorted_Us.device).expand_as(sorted_Us)
    changes_Us = sorted_Us[:, 1:] != sorted_Us[:, :-1]
    edge_U1 = torch.ones_like(changes_Us[:, :1]) if changes_Us.shape[1] else changes_Us.new_ones(len(sorted_Us), 1)
    begins_Us, ends_Us = torch.cat([edge_U1, changes_Us], 1), torch.cat([changes_Us, edge_U1], 1)
    first_Us = torch.where(begins_Us, place_Us, 0).cummax(1).values
    last_Us = torch.where(ends_Us, place_Us, place_Us.shape[1]).flip(1).cummin(1).values.flip(1)
    return first_Us, last_Us


class ItemMeans(NamedTuple):
    """Mean activations of units at items, over the states that have just read them."""

    means_UN: Tensor  # 0 at items without enough states
    known_N: Tensor  # which items had enough


def mean_by_item(units_SU: Tensor, items_S: Tensor, item_count: int) -> ItemMeans:
    """Mean of each unit at each item that has at least `MIN_ITEM_EVENTS` states (or as many as any item has)."""
    counts_N = torch.bincount(items_S, minlength=item_count)
    known_N = counts_N >= max(1, min(MIN_ITEM_EVENTS, int(counts_N.max())))
    means_UN = torch.zeros(units_SU.shape[1], item_count, device=items_S.device)
    for which, block_SU in _blocks(units_SU):
        sums_NU = block_SU.new_zeros(item_count, block_SU.shape[1]).index_add_(0, items_S, block_SU)
        means_UN[which] = (sums_NU / counts_N.clamp_min(1)[:, None] * known_N[:, None]).T
    return ItemMeans(means_UN, known_N)
