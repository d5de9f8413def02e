"""TopK sparse autoencoder (Gao et al., arXiv 2406.04093). Dimensions: B batch, D hidden, F features."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class SaeConfig:
    """Shape and training of the autoencoder."""

    features: int = 512
    """F, the size of the dictionary."""
    active: int = 32
    """Features active at a time."""
    epochs: int = 30
    """Passes over the hidden states."""
    batch_size: int = 1024
    """Hidden states in a step."""
    learning_rate: float = 2e-3
    """Peak, of Adam; cosine to zero."""
    dead_after: int = 50_000
    """States without firing after which a feature counts as dead and is trained on what the others miss."""
    aux_weight: float = 1 / 32
    """Weight of that auxiliary loss."""
    seed: int = 0
    """Of weights and order."""

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.features:
            raise ValueError(f"active: {self.active} is not between 1 and features, {self.features}")


class SparseAutoencoder(nn.Module):
    """z = TopK(relu(W_enc (h - b_dec) + b_enc)), h ~ z W_dec + b_dec, with rows of W_dec of unit norm."""

    def __init__(self, hidden: int, features: int, active: int) -> None:
        super().__init__()
        self.active = active
        decoder_FD = F.normalize(torch.randn(features, hidden), dim=1)
        self.decoder_FD = nn.Parameter(decoder_FD)
        self.encoder_FD = nn.Parameter(decoder_FD.clone())
        self.encoder_bias_F = nn.Parameter(torch.zeros(features))
        self.decoder_bias_D = nn.Parameter(torch.zeros(hidden))

    def preactivations(self, h_BD: Tensor) -> Tensor:
        return F.relu(F.linear(h_BD - self.decoder_bias_D, self.encoder_FD, self.encoder_bias_F))

    def encode(self, h_BD: Tensor) -> Tensor:
        """Activations (B, F), at most `active` of them above zero in a row (more only if they tie)."""
        return _keep_top(self.preactivations(h_BD), self.active)

    def decode(self, z_BF: Tensor) -> Tensor:
        return z_BF @ self.decoder_FD + self.decoder_bias_D

    def reconstruct(self, h_BD: Tensor) -> Tensor:
        """The state as the features tell it, (B, D)."""
        return self.decode(self.encode(h_BD))


def _keep_top(pre_BF: Tensor, count: int) -> Tensor:
    threshold_B1 = pre_BF.topk(count, dim=-1).values[:, -1:]
    return pre_BF * (pre_BF >= threshold_B1)


def train_sae(states_SD: Tensor, config: SaeConfig, report: Callable[[int, int, float], None]) -> SparseAutoencoder:
    """Trains on hidden states (S, D). `report` is called with epoch, epochs and variance explained."""
    torch.manual_seed(config.seed)
    scale = (states_SD - states_SD.mean(0)).square().mean().sqrt().item()
    scaled_SD = states_SD / scale
    sae = SparseAutoencoder(states_SD.shape[1], config.features, config.active).to(states_SD.device)
    sae.decoder_bias_D.data.copy_(scaled_SD.mean(0))
    optimiser = torch.optim.Adam(sae.parameters(), lr=config.learning_rate, betas=(0.9, 0.999), fused=True)
    steps = config.epochs * math.ceil(len(states_SD) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    idle_F = torch.zeros(config.features, device=states_SD.device)
    for epoch in range(config.epochs):
        missed = 0.0
        for rows in torch.randperm(len(states_SD), device=states_SD.device).split(config.batch_size):
            error, fired_F = _step(sae, scaled_SD[rows], idle_F >= config.dead_after, config, optimiser)
            schedule.step()
            idle_F = torch.where(fired_F, 0, idle_F + len(rows))
            missed += error * len(rows)
        report(epoch + 1, config.epochs, 1 - missed / len(states_SD))
    with torch.no_grad():  # back to the states' own units; decoder rows keep unit norm
        sae.encoder_bias_F.mul_(scale)
        sae.decoder_bias_D.mul_(scale)
    return sae.eval().requires_grad_(False)


def _step(
    sae: SparseAutoencoder, h_BD: Tensor, dead_F: Tensor, config: SaeConfig, optimiser: torch.optim.Optimizer
) -> tuple[float, Tensor]:
    """One step. Returns the share of variance missed (the states have unit variance) and which features fired."""
    pre_BF = sae.preactivations(h_BD)
    z_BF = _keep_top(pre_BF, config.active)
    residual_BD = h_BD - sae.decode(z_BF)
    loss = error = residual_BD.square().mean()
    if bool(dead_F.any()):
        spare_BF = _keep_top(pre_BF * dead_F, min(2 * config.active, int(dead_F.sum())))
        missed_BD = residual_BD.detach() - spare_BF @ sae.decoder_FD
        loss = loss + config.aux_weight * missed_BD.square().mean() / error.detach()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        sae.decoder_FD.copy_(F.normalize(sae.decoder_FD, dim=1))
    return error.item(), (z_BF > 0).any(0)


@torch.no_grad()
def measure_sae(sae: SparseAutoencoder, states_SD: Tensor) -> dict[str, float]:
    """Share of variance explained, mean number of active features, and share of features that never fire."""
    missed, active, fired_F = 0.0, 0.0, torch.zeros(len(sae.decoder_FD), dtype=torch.bool, device=states_SD.device)
    for h_BD in states_SD.split(4096):
        z_BF = sae.encode(h_BD)
        missed += float((h_BD - sae.decode(z_BF)).square().sum())
        active += float((z_BF > 0).sum())
        fired_F |= (z_BF > 0).any(0)
    variance = float((states_SD - states_SD.mean(0)).square().sum())
    return {
        "variance_explained": 1 - missed / variance,
        "active": active / len(states_SD),
        "dead": 1 - fired_F.double().mean().item(),
    }
