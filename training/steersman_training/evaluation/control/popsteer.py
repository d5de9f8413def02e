"""PopSteer (Ahmadov & Mansoury, arXiv 2601.15122), the published control of popularity by an autoencoder, as a baseline.

Dimensions: S synthetic users, T time, D hidden, F features, N items.
"""

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.bundle.graphs import Lower
from steersman_training.catalogue.steering import Audience, SteeredLists
from steersman_training.data.sequences import pad
from steersman_training.evaluation.control.baselines import Steer
from steersman_training.recommender.model import Recommender

SHARE = 0.2
"""Of the events: the most popular items that make up so many are the head, the least popular that make up so many the tail."""


def head_and_tail(popularity_N: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Item rows of the head and of the tail; each has one item at least."""
    order = np.argsort(-popularity_N, kind="stable")
    upto = np.cumsum(popularity_N[order]) / popularity_N.sum()
    head, tail = order[upto <= SHARE], order[upto >= 1 - SHARE]
    return (head if len(head) else order[:1]), (tail if len(tail) else order[-1:])


@torch.no_grad()
def synthetic_states(
    model: Recommender, pool: npt.NDArray[np.int64], lengths_S: npt.NDArray[np.int64], seed: int, batch_size: int = 128
) -> Tensor:
    """States of users of `pool` items only, drawn with replacement; histories as long as those of real users. (S, D)"""
    rng = np.random.default_rng(seed)
    device, longest = model.biases.device, model.config.window_length
    histories = [rng.choice(pool, min(int(length), longest)) for length in np.sort(lengths_S)]
    states = []
    for begin in range(0, len(histories), batch_size):
        ids_BT, lengths_B = (torch.from_numpy(part).to(device) for part in pad(histories[begin : begin + batch_size]))
        states.append(Lower(model)(model.items.weight, ids_BT, lengths_B)[0])
    return torch.cat(states)


class EffectSizes(NamedTuple):
    """How features separate users of the head from users of the tail, before the autoencoder's threshold."""

    d_F: Tensor  # Cohen's d, positive where the head's users excite the feature more
    head_sd_F: Tensor
    tail_sd_F: Tensor


@torch.no_grad()
def effect_sizes(sae: SparseAutoencoder, head_SD: Tensor, tail_SD: Tensor) -> EffectSizes:
    """Cohen's d of each feature, with the root of the mean variance below it; 0 where nothing varies."""
    head_SF, tail_SF = (
        F.linear(states_SD - sae.decoder_bias_D, sae.encoder_FD, sae.encoder_bias_F) for states_SD in (head_SD, tail_SD)
    )
    head_sd_F, tail_sd_F = (z_SF.std(0, correction=0) for z_SF in (head_SF, tail_SF))
    pooled_F = ((head_sd_F.square() + tail_sd_F.square()) / 2).sqrt()
    d_F = torch.where(pooled_F > 1e-9, (head_SF.mean(0) - tail_SF.mean(0)) / pooled_F.clamp_min(1e-9), 0.0)
    return EffectSizes(d_F, head_sd_F, tail_sd_F)


def shifts(effects: EffectSizes, features: int) -> Tensor:
    """What strength 1 (the paper's alpha) adds to each feature before the threshold. (F,)

    The `features` largest effects, weighed from 0 to 1 by their size among all, times the feature's standard deviation over the synthetic
    users that excite it less (as in the authors' code): features of the head go down, features of the tail go up.
    """
    size_F = effects.d_F.abs()
    weight_F = (size_F - size_F.min()) / (size_F.max() - size_F.min()).clamp_min(1e-9)
    chosen_F = torch.zeros_like(size_F).scatter(0, size_F.topk(min(features, len(size_F))).indices, 1.0)
    sd_F = torch.where(effects.d_F < 0, effects.head_sd_F, effects.tail_sd_F)
    return -effects.d_F.sign() * chosen_F * weight_F * sd_F


def popsteer(sae: SparseAutoencoder, effects: EffectSizes, features: int, *, keep_error: bool) -> Steer:
    """Steering towards the tail by the `features` largest effects.

    As published, the reconstruction takes the state's place, so that strength 0 has the cost of the reconstruction. With `keep_error`,
    the reconstruction error stays, as in edit.py, and strength 0 changes nothing.
    """
    shift_F = shifts(effects, features)

    @torch.no_grad()
    def steer(people: Audience, strength: float) -> SteeredLists:
        # A shift of pre-activations is a shift of the encoder's bias.
        shifted = deepcopy(sae)
        shifted.encoder_bias_F.copy_(sae.encoder_bias_F + strength * shift_F)
        steered_BD = shifted.reconstruct(people.h_BD)
        if keep_error:
            steered_BD = people.h_BD + (steered_BD - sae.reconstruct(people.h_BD))
        return people.lists(steered_BD)

    return steer
