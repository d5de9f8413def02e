"""Anchored features: one atom of the dictionary for each aim, whose encoder detects it and whose decoder raises it.

Dimensions: S states, B users, K candidates, D hidden, V aims, N items.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from steersman_training.autoencoder.moments import Moments
from steersman_training.autoencoder.sae import Anchors
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.steering import Audience, fisher_information, pull
from steersman_training.catalogue.units import correlations

LEARNERS = 150  # users in whose Fisher metric a decoder is fitted
TILT = 2.0  # nats by which it is to raise an aim there: members of a value become seven times as likely
ROUNDS = 6  # of alternating least squares
RIDGE = 0.02  # of a decoder, relative to the mean curvature
ITEM_WEIGHT = 2.2  # of the item just read in what an encoder reads, beside the list to come
READING_RIDGE = 1e-3  # of an encoder, relative to the mean variance
SILENT = 0.4  # share of the states in which an anchored feature is not active
LEAD = 0.02  # of an encoder's correlation with its own value in the list to come, before that with any other
APART_ROUNDS, APART_STEP = (
    10,
    0.15,
)  # in which an encoder is turned away from another value, by that part of its read-out
LEAST_COSINE = 0.05  # of encoder and decoder: what moves the lists must also move the reading
TINY = 1e-12


class _Pull(NamedTuple):
    """The way in which an aim pulls the states of some users, and what that costs."""

    slopes_BD: Tensor
    fishers_BDD: Tensor


@torch.no_grad()
def fit_anchors(
    aims: list[Aim], moments: Moments, people: Audience, report: Callable[[int, int], None] = lambda done, total: None
) -> Anchors:
    """Encoders are fitted on the moments, decoders on some of the people. Both see training events alone.

    `report` is called with the number of decoders done, and of all.
    """
    if not aims:
        return Anchors.none(moments.h_SD.shape[1])
    leans_VN = torch.stack([aim.lean_N for aim in aims]).to(moments.h_SD.device)
    some = people.take(torch.arange(min(LEARNERS, len(people.h_BD)), device=people.h_BD.device))
    decoders_VD = fit_decoders(leans_VN, some, report)
    encoders_VD, thresholds_V = fit_encoders(leans_VN, moments, decoders_VD, [aim.attribute for aim in aims])
    together_V1 = (encoders_VD * decoders_VD).sum(1, keepdim=True).clamp_min(TINY)  # 0 where nothing raises an aim
    return Anchors(encoders_VD, thresholds_V, decoders_VD / together_V1)


def fit_decoders(
    leans_VN: Tensor, people: Audience, report: Callable[[int, int], None] = lambda done, total: None
) -> Tensor:
    """Directions of unit length that raise each aim at the least change of everything else. (V, D)

    Each user b has a pull towards the aim, c_b, and a Fisher matrix F_b, which measures how far a step takes the list (KL, nats). A
    direction v that each user follows by a step w_b of its own, 0 or more, gains the sum of w_b c_b.v - w_b^2 v'F_b v / 2. Steps and
    direction are fitted in turns.
    """
    candidates_BK, scores_BK = people.candidates
    items_BKD = people.model.items.weight[candidates_BK]
    fisher_DD = fisher_information(people) if people.context else None
    directions = []
    for lean_N in leans_VN:
        if fisher_DD is None:
            directions.append(_decoder(_pull(lean_N[candidates_BK], scores_BK, items_BKD)))
        else:
            directions.append(_decoder_below(lean_N, people, fisher_DD))
        report(len(directions), len(leans_VN))
    return torch.stack(directions)


def _pull(lean_BK: Tensor, scores_BK: Tensor, items_BKD: Tensor) -> _Pull:
    """In the metric half way between a user's own distribution and the tilted one."""
    tilts_BK = TILT * lean_BK
    metric_BK = 0.5 * (scores_BK.softmax(-1) + (scores_BK + tilts_BK).softmax(-1))
    centred_BKD = items_BKD - (metric_BK.unsqueeze(-1) * items_BKD).sum(1, keepdim=True)
    weighted_BDK = (centred_BKD * metric_BK.unsqueeze(-1)).mT
    return _Pull((weighted_BDK @ tilts_BK.unsqueeze(-1)).squeeze(-1), weighted_BDK @ centred_BKD)


def _decoder(pull: _Pull) -> Tensor:
    slopes_BD, fishers_BDD = pull
    mean_DD = fishers_BDD.mean(0)
    ridge_DD = (RIDGE * mean_DD.diagonal().mean()).clamp_min(TINY) * torch.eye(len(mean_DD), device=mean_DD.device)
    direction_D = torch.linalg.solve(mean_DD + ridge_DD, slopes_BD.mean(0))
    for _ in range(ROUNDS):
        curvature_B = ((direction_D @ fishers_BDD) * direction_D).sum(-1)
        step_B = ((slopes_BD @ direction_D) / (1.02 * curvature_B + 1e-4)).clamp_min(0)
        if not bool(step_B.any()):
            break  # nothing raises it
        metric_DD = (step_B[:, None, None].square() * fishers_BDD).mean(0) + step_B.square().mean() * ridge_DD
        direction_D = torch.linalg.solve(metric_DD, (step_B[:, None] * slopes_BD).mean(0))
    return F.normalize(direction_D, dim=0)


def _decoder_below(lean_N: Tensor, people: Audience, fisher_DD: Tensor) -> Tensor:
    """Below the last block, where scores are not linear in the state: the natural gradient at the users' own states."""
    ridge_DD = (RIDGE * fisher_DD.diagonal().mean()).clamp_min(TINY) * torch.eye(
        len(fisher_DD), device=fisher_DD.device
    )
    return F.normalize(torch.linalg.solve(fisher_DD + ridge_DD, pull(people, lean_N)), dim=0)


def fit_encoders(
    leans_VN: Tensor, moments: Moments, decoders_VD: Tensor, attributes: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Detectors max(0, u.h - threshold), (V, D) and (V,), of each aim in the list to come and in the item just read.

    u is the linear read-out of both, by least squares with a ridge; it keeps LEAST_COSINE to its decoder. One that
    tells of another value of the same attribute as well as of its own is turned away from that one.
    """
    mean_D = moments.h_SD.mean(0)
    centred_SD = moments.h_SD - mean_D
    lists_SV = _standard(moments.list_means(leans_VN))
    truth_SV = lists_SV + ITEM_WEIGHT * _standard(leans_VN.T[moments.items_S])
    covariance_DD = centred_SD.T @ centred_SD / len(centred_SD)
    ridge = (READING_RIDGE * covariance_DD.diagonal().mean()).clamp_min(TINY)
    eye_DD = torch.eye(len(mean_D), device=mean_D.device)
    read_out_DV = torch.linalg.solve(covariance_DD + ridge * eye_DD, centred_SD.T @ truth_SV / len(centred_SD))
    encoders_VD = _apart(read_out_DV.T, decoders_VD, centred_SD, lists_SV, attributes)
    readings_VS = (encoders_VD @ centred_SD.T).sort(1).values
    return encoders_VD, readings_VS[:, int(SILENT * (len(centred_SD) - 1))] + encoders_VD @ mean_D


def _apart(
    own_VD: Tensor, decoders_VD: Tensor, centred_SD: Tensor, lists_SV: Tensor, attributes: Sequence[str]
) -> Tensor:
    """Encoders, each of which tells its own value's share of the list to come by LEAD better than another value's of the attribute.

    Values that share items read alike. The other's read-out is taken off, a little at a time, as long as it is needed. Where that does not
    help within APART_ROUNDS, the read-out stays what it was.
    """
    number = {attribute: row for row, attribute in enumerate(dict.fromkeys(attributes))}
    group_V = torch.tensor([number[attribute] for attribute in attributes], device=own_VD.device)
    rivals_VV = (group_V[:, None] == group_V) & ~torch.eye(len(own_VD), dtype=torch.bool, device=own_VD.device)
    turned_VD, open_V = own_VD.clone(), rivals_VV.any(1).nonzero()[:, 0]
    for _ in range(APART_ROUNDS):
        if not len(open_V):
            break
        encoders_WD = _towards(turned_VD[open_V], decoders_VD[open_V])
        told_WV = correlations(_active(centred_SD, encoders_WD), lists_SV)
        own_W = told_WV.gather(1, open_V[:, None])[:, 0]
        best_W = told_WV.masked_fill(~rivals_VV[open_V], -1.0).max(1)
        confused_W = best_W.values > own_W - LEAD
        open_V, rival_W = open_V[confused_W], best_W.indices[confused_W]
        turned_VD[open_V] -= APART_STEP * own_VD[rival_W]
    turned_VD[open_V] = own_VD[open_V]
    return _towards(turned_VD, decoders_VD)


def _active(centred_SD: Tensor, encoders_VD: Tensor) -> Tensor:
    """Activations of detectors that are silent in SILENT of the states. (S, V)"""
    readings_SV = centred_SD @ encoders_VD.T
    threshold_V = readings_SV.sort(0).values[int(SILENT * (len(readings_SV) - 1))]
    return (readings_SV - threshold_V).relu()


def _towards(encoders_VD: Tensor, decoders_VD: Tensor) -> Tensor:
    """Encoders of unit length, those with less than LEAST_COSINE to their decoder turned until they have it."""
    encoders_VD = F.normalize(encoders_VD, dim=1)
    cosine_V1 = (encoders_VD * decoders_VD).sum(1, keepdim=True)
    across_VD = F.normalize(encoders_VD - cosine_V1 * decoders_VD, dim=1)
    turned_VD = (1 - LEAST_COSINE**2) ** 0.5 * across_VD + LEAST_COSINE * decoders_VD
    return torch.where(cosine_V1 < LEAST_COSINE, turned_VD, encoders_VD)


def _standard(x_SV: Tensor) -> Tensor:
    x_SV = x_SV.float() - x_SV.float().mean(0)
    return x_SV / x_SV.square().mean(0).sqrt().clamp_min(1e-6)
