"""The edit: the one implementation, used by the offline evaluation and exported into every bundle.

Dimensions: B batch, D hidden, F features, E edits.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman_training.autoencoder.sae import SparseAutoencoder


class Edited(NamedTuple):
    edited_BD: Tensor  # the edited hidden state
    z_BF: Tensor  # activations before the edit


class Edit(nn.Module):
    """z'_f = (prod gain) z_f + (sum strength) scale_f over the edits of f;  h' = h + sum_f (z'_f - z_f) W_dec[f].

    The delta form keeps the reconstruction error, and gives back h, value for value, without an edit.
    """

    scale_F: Tensor

    def __init__(self, sae: SparseAutoencoder, scale_F: Tensor) -> None:
        super().__init__()
        self.sae = sae
        self.register_buffer("scale_F", scale_F)

    def forward(self, h_BD: Tensor, features_BE: Tensor, gains_BE: Tensor, strengths_BE: Tensor) -> Edited:
        """Applies each row's own edits. Padding is feature 0, gain 1, strength 0."""
        z_BF = self.sae.encode(h_BD)
        same_BEE = features_BE.unsqueeze(2) == features_BE.unsqueeze(1)
        gain_BE = torch.where(same_BEE, gains_BE.unsqueeze(1), 1.0).prod(2)
        strength_BE = torch.where(same_BEE, strengths_BE.unsqueeze(1), 0.0).sum(2)
        delta_BE = (gain_BE - 1) * z_BF.gather(1, features_BE) + strength_BE * self.scale_F[features_BE]
        share_BE = delta_BE / same_BEE.sum(2)  # edits of one feature share its change
        change_BD = (share_BE.unsqueeze(1) @ F.embedding(features_BE, self.sae.decoder_FD)).squeeze(1)
        return Edited(h_BD + change_BD, z_BF)


class Add(nn.Module):
    """h' = h + sum_e strength_e scale_f W_dec[f]: the same as Edit if every gain is 1, without encoding."""

    directions_FD: Tensor

    def __init__(self, edit: Edit) -> None:
        super().__init__()
        self.register_buffer("directions_FD", edit.scale_F.unsqueeze(1) * edit.sae.decoder_FD)

    def forward(self, h_BD: Tensor, features_BE: Tensor, strengths_BE: Tensor) -> Tensor:
        return h_BD + (strengths_BE.unsqueeze(1) @ F.embedding(features_BE, self.directions_FD)).squeeze(1)


@torch.no_grad()
def natural_scale(sae: SparseAutoencoder, states_SD: Tensor) -> Tensor:
    """The 0.99 quantile of each feature's active values over hidden states (S, D); 0 for a feature that never fires. (F,)"""
    z_SF = sae.encode_all(states_SD)
    z_SF[z_SF == 0] = torch.nan
    return torch.stack([column.nanquantile(0.99) for column in z_SF.T]).nan_to_num(0.0)
