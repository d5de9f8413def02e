"""Units of hidden states: features of an autoencoder, and neurons. Dimensions: S states, D hidden, F features."""

import copy

import torch
from torch import Tensor, nn

from steersman_training.autoencoder.sae import SparseAutoencoder


@torch.no_grad()
def discovered(sae: SparseAutoencoder) -> SparseAutoencoder:
    """The autoencoder without its anchored features."""
    alone = copy.deepcopy(sae)
    for name in ("encoder_FD", "encoder_bias_F", "decoder_FD"):
        kept = getattr(sae, name)[: sae.discovered].clone()
        setattr(alone, name, nn.Parameter(kept, requires_grad=False))
    return alone


@torch.no_grad()
def features(sae: SparseAutoencoder, h_SD: Tensor) -> Tensor:
    """Activations as a sparse matrix, (S, F): 50,000 states by 4,096 features would be 0.8 GB."""
    return torch.cat([sae.encode(part).to_sparse() for part in h_SD.split(4096)]).coalesce()


def neurons(h_SD: Tensor, mean_D: Tensor) -> Tensor:
    """Neurons as 2 D units: above their mean first, then below it, since a neuron may represent something with either sign. (S, 2 D)"""
    deviation_SD = h_SD - mean_D
    return torch.cat([deviation_SD, -deviation_SD], dim=1)
