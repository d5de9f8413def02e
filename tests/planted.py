"""Events whose states are made of known directions, so that what features and neurons mean is known beforehand."""

import torch
from torch import Tensor

from steersman_training.autoencoder.moments import Moments
from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.catalogue.attributes import AttributeValues

VALUES, ITEMS, HIDDEN = 4, 40, 8


def values() -> AttributeValues:
    """Item i has value i modulo four."""
    member_VN = torch.arange(ITEMS) % VALUES == torch.arange(VALUES)[:, None]
    return AttributeValues([("genres", name) for name in ("Comedy", "Crime", "Horror", "War")], member_VN)


def directions() -> Tensor:
    """The rows of a Hadamard matrix, so that every neuron has an equal part in every direction. (F, D), as many as D."""
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    rows_FD: Tensor = torch.kron(two, torch.kron(two, two)) / HIDDEN**0.5
    return rows_FD


def moments(events: int, seed: int) -> Moments:
    """Direction v is the value of the item at hand; direction 4 + v the share of the value in the list to come."""
    generator = torch.Generator().manual_seed(seed)
    items_S = torch.randint(ITEMS, (events,), generator=generator)
    lists_SK = torch.rand(events, ITEMS, generator=generator).topk(10, dim=1).indices
    member_NV = values().member_VN.T.float()
    told_SF = torch.cat([member_NV[items_S], member_NV[lists_SK].mean(1)], dim=1)
    return Moments(told_SF @ directions(), items_S, lists_SK)


def autoencoder() -> SparseAutoencoder:
    """Its features are the directions."""
    sae = SparseAutoencoder(HIDDEN, HIDDEN, active=HIDDEN).requires_grad_(False)
    sae.decoder_FD.copy_(directions())
    sae.encoder_FD.copy_(directions())
    return sae
