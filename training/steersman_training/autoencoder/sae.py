"""Sparse autoencoders of hidden states: TopK and Matryoshka. Dimensions: B batch, S states, D hidden, F features."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kind = Literal["topk", "matryoshka"]

PREFIXES = (16, 8, 4, 2, 1)  # a Matryoshka reconstructs from its first sixteenth of features, its first eighth, ...
THRESHOLD_DECAY = 0.99  # of the running mean of batch thresholds, which becomes the fixed threshold
CLUSTERED_STATES = 60_000  # states whose clusters features are initialised with
CLUSTERED_ROUNDS = 12  # of k-means on them
# Of a direction, as a part of the mean: states hardly vary along it, so it is not stretched further.
LEAST_VARIANCE = 1e-6
SAME = 1e-5  # two directions are the same if one minus their cosine is at most this


@dataclass(frozen=True)
class SaeConfig:
    """Shape and training of the autoencoder."""

    features: int = 512
    """F, the size of the dictionary."""
    active: int = 32
    """Features active at a time; on average for matryoshka."""
    kind: Kind = "topk"
    """Which features are active. topk: as many in every state. matryoshka: those above one threshold."""
    whiten: float = 0.5
    """How much alike all directions of the states are made for it: 0 not at all, 1 wholly. Untouched, few directions have most of the
    variance, and most features never fire."""
    epochs: int = 30
    """Passes over the hidden states."""
    batch_size: int = 1024
    """Hidden states in a step."""
    learning_rate: float = 2e-3
    """Peak, of Adam; cosine to zero."""
    dead_after: int = 50_000
    """States without firing after which a feature counts as dead and is trained on the residual of the others."""
    aux_weight: float = 1 / 32
    """Weight of that auxiliary loss."""
    seed: int = 0
    """Of the order of states. Weights are initialised with centroids, which do not depend on it."""

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.features:
            raise ValueError(f"active: {self.active} is not between 1 and features, {self.features}")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: {self.kind!r} is none of {', '.join(get_args(Kind))}")
        if not 0 <= self.whiten <= 1:
            raise ValueError(f"whiten: {self.whiten} is not between 0 and 1")


class Anchors(NamedTuple):
    """Features fitted to something known, to stand beside those that an autoencoder discovers: z = max(0, W_enc h - threshold)."""

    encoder_VD: Tensor
    threshold_V: Tensor
    decoder_VD: Tensor

    @staticmethod
    def none(hidden: int) -> "Anchors":
        return Anchors(torch.zeros(0, hidden), torch.zeros(0), torch.zeros(0, hidden))


class SparseAutoencoder(nn.Module):
    """z = sparse(W_enc (h - b_dec) + b_enc), h ~ z W_dec + b_dec, with rows of W_dec of unit norm where states were not whitened.

    sparse keeps the positive pre-activations that are among the `active` largest of a state (topk: Gao et al., arXiv 2406.04093) or above
    one threshold of the whole dictionary (matryoshka: Bussmann et al., arXiv 2503.17547, trained with BatchTopK, arXiv 2412.06410).

    Anchored features stand after the `discovered` ones. They are active wherever they are above zero, and take no part in the
    reconstruction.
    """

    threshold_F: Tensor

    def __init__(self, hidden: int, features: int, active: int, kind: Kind = "topk") -> None:
        super().__init__()
        self.active, self.kind, self.discovered = active, kind, features
        decoder_FD = F.normalize(torch.randn(features, hidden), dim=1)
        self.decoder_FD = nn.Parameter(decoder_FD)
        self.encoder_FD = nn.Parameter(decoder_FD.clone())
        self.encoder_bias_F = nn.Parameter(torch.zeros(features))
        self.decoder_bias_D = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("threshold_F", torch.zeros(features))  # not used by topk

    def preactivations(self, h_BD: Tensor) -> Tensor:
        """W_enc (h - b_dec) + b_enc, (B, F); with the decoder's bias folded in, its gradient costs no product over the batch."""
        return F.linear(h_BD, self.encoder_FD, self.encoder_bias_F - self.encoder_FD @ self.decoder_bias_D)

    def encode(self, h_BD: Tensor) -> Tensor:
        """Activations (B, F). topk: at most `active` discovered ones are above zero in a row (more only if they tie)."""
        pre_BF, anchored_BV = self._parts(h_BD)
        z_BF = _keep_top(pre_BF, self.active) if self.kind == "topk" else _keep(pre_BF, pre_BF > self.threshold_F)
        return torch.cat([z_BF, anchored_BV.relu()], dim=1) if anchored_BV.shape[1] else z_BF

    def _parts(self, h_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Pre-activations of discovered and of anchored features."""
        pre_BF = self.preactivations(h_BD)
        return pre_BF[:, : self.discovered], pre_BF[:, self.discovered :]

    @torch.no_grad()
    def with_anchors(self, anchors: Anchors) -> "SparseAutoencoder":
        """A copy with anchored features after the discovered ones."""
        joined = copy.deepcopy(self)
        biases_V = anchors.encoder_VD @ self.decoder_bias_D - anchors.threshold_V
        joined.encoder_FD = _parameter(self.encoder_FD, anchors.encoder_VD)
        joined.encoder_bias_F = _parameter(self.encoder_bias_F, biases_V)
        joined.decoder_FD = _parameter(self.decoder_FD, anchors.decoder_VD)
        return joined

    def encode_all(self, states_SD: Tensor) -> Tensor:
        """Activations of any number of states, (S, F), computed in parts."""
        return torch.cat([self.encode(h_BD) for h_BD in states_SD.split(4096)])

    def decode(self, z_BF: Tensor) -> Tensor:
        """The state, (B, D), from the discovered features."""
        return z_BF[:, : self.discovered] @ self.decoder_FD[: self.discovered] + self.decoder_bias_D

    def reconstruct(self, h_BD: Tensor) -> Tensor:
        """decode(encode(h)), (B, D)."""
        return self.decode(self.encode(h_BD))

    def margin(self, h_BD: Tensor) -> Tensor:
        """Distance of each state's nearest feature from being switched on or off by a jump, (B,).

        Infinite if all change smoothly: no threshold above zero, or no more than `active` features above zero.
        """
        pre_BF, _ = self._parts(h_BD)
        if self.kind != "topk":
            return torch.where(self.threshold_F > 0, (pre_BF - self.threshold_F).abs(), math.inf).amin(1)
        if self.active == pre_BF.shape[1]:
            return torch.full_like(pre_BF[:, 0], math.inf)
        top_BA = pre_BF.topk(self.active + 1, dim=1).values
        return torch.where(top_BA[:, -1] > 0, top_BA[:, -2] - top_BA[:, -1], math.inf)


def _parameter(*parts: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.cat(parts), requires_grad=False)


def _keep(pre_BF: Tensor, which_BF: Tensor) -> Tensor:
    """`where`, not a product: half the passes over memory, forwards and backwards."""
    return torch.where(which_BF & (pre_BF > 0), pre_BF, 0.0)


def _keep_top(pre_BF: Tensor, count: int) -> Tensor:
    return _keep(pre_BF, pre_BF >= pre_BF.topk(count, dim=-1, sorted=False).values.amin(-1, keepdim=True))


def train_sae(states_SD: Tensor, config: SaeConfig, report: Callable[[int, int, float], None]) -> SparseAutoencoder:
    """Trains on hidden states (S, D). `report` is called with epoch, epochs and variance explained (of the whitened states)."""
    torch.manual_seed(config.seed)
    whitening = _Whitening.of(states_SD, config.whiten)
    x_SD = whitening.whiten(states_SD)
    training = _Training(x_SD, config)
    for epoch in range(config.epochs):
        missed = 0.0
        for rows in torch.randperm(len(x_SD), device=x_SD.device).split(config.batch_size):
            missed += training.step(x_SD[rows]) * len(rows)
        report(epoch + 1, config.epochs, 1 - missed / len(x_SD))
    whitening.fold_into(training.sae)
    return training.sae.eval().requires_grad_(False)


class _Whitening(NamedTuple):
    """x = (h - mean) T, of unit mean variance, with T = covariance^(-power / 2) but for a factor."""

    mean_D: Tensor
    there_DD: Tensor
    back_DD: Tensor
    unit: float
    """Of activations: the root mean square of the states' numbers, as if they had not been whitened."""

    @staticmethod
    @torch.no_grad()
    def of(states_SD: Tensor, power: float) -> "_Whitening":
        mean_D = states_SD.mean(0)
        covariance_DD = ((states_SD - mean_D).T @ (states_SD - mean_D) / len(states_SD)).double()
        variance = covariance_DD.diagonal().mean().clamp_min(1e-12)
        variances_D, axes_DD = torch.linalg.eigh(covariance_DD)
        stretches_D = variances_D.clamp_min(LEAST_VARIANCE * variance) ** (-power / 2)
        stretches_D /= (variances_D.clamp_min(0) * stretches_D**2).mean().clamp_min(1e-12).sqrt()
        there_DD, back_DD = (((axes_DD * part_D) @ axes_DD.T).float() for part_D in (stretches_D, 1 / stretches_D))
        return _Whitening(mean_D, there_DD, back_DD, float(variance.sqrt()))

    def whiten(self, h_SD: Tensor) -> Tensor:
        return (h_SD - self.mean_D) @ self.there_DD

    @torch.no_grad()
    def fold_into(self, sae: SparseAutoencoder) -> None:
        """Makes an autoencoder of whitened states one of the states themselves."""
        sae.encoder_FD.copy_(sae.encoder_FD @ self.there_DD * self.unit)
        sae.decoder_FD.copy_(sae.decoder_FD @ self.back_DD / self.unit)
        sae.decoder_bias_D.copy_(self.mean_D + sae.decoder_bias_D @ self.back_DD)
        for part in (sae.encoder_bias_F, sae.threshold_F):
            part.mul_(self.unit)


@torch.no_grad()
def centroids(states_SD: Tensor, count: int) -> Tensor:
    """Directions from the mean with many states: spherical k-means (Dhillon & Modha 2001), the largest cluster first. (F, D)

    Most features initialised with them are found again with another seed; features with random initial values are not. So they depend on
    the states alone, not on a seed. Repeated directions, of few states, are replaced by random ones: they would stay the same.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(states_SD), generator=generator)[:CLUSTERED_STATES].to(states_SD.device)
    x_SD = F.normalize(states_SD[rows] - states_SD.mean(0), dim=1)
    drawn = torch.randperm(max(len(x_SD), count), generator=generator)[:count].to(states_SD.device) % len(x_SD)
    centres_FD = x_SD[drawn]
    for _ in range(CLUSTERED_ROUNDS):
        nearest_S = torch.cat([(part_SD @ centres_FD.T).argmax(1) for part_SD in x_SD.split(8192)])
        sums_FD = torch.zeros_like(centres_FD).index_add_(0, nearest_S, x_SD)
        empty_F1 = sums_FD.norm(dim=1, keepdim=True) == 0
        centres_FD = torch.where(empty_F1, centres_FD, F.normalize(sums_FD, dim=1))
    sizes_F = torch.bincount(nearest_S, minlength=count)
    same_FF = (centres_FD @ centres_FD.T > 1 - SAME).tril(-1)
    random_FD = F.normalize(torch.randn(centres_FD.shape, generator=generator), dim=1).to(centres_FD.device)
    centres_FD = torch.where(same_FF.any(1, keepdim=True), random_FD, centres_FD)
    return centres_FD[sizes_F.argsort(descending=True, stable=True)]


class _Training:
    """One training run over states of unit variance."""

    def __init__(self, states_SD: Tensor, config: SaeConfig) -> None:
        hidden, device = states_SD.shape[1], states_SD.device
        self.config = config
        self.sae = SparseAutoencoder(hidden, config.features, config.active, config.kind).to(device)
        self.sae.decoder_bias_D.data.copy_(states_SD.mean(0))
        directions_FD = centroids(states_SD, config.features)
        self.sae.decoder_FD.data.copy_(directions_FD)
        self.sae.encoder_FD.data.copy_(directions_FD)
        self.idle_F = torch.zeros(config.features, device=device)
        prefixes = sorted({max(1, config.features // part) for part in PREFIXES})
        self.ends = prefixes if config.kind == "matryoshka" else [config.features]
        if config.kind != "topk":
            with torch.no_grad():
                some_BF = self.sae.preactivations(states_SD[: config.batch_size])
                self.sae.threshold_F.fill_(_batch_threshold(some_BF, config.active))
        self.optimiser = torch.optim.Adam(self.sae.parameters(), lr=config.learning_rate, fused=True)
        steps = config.epochs * math.ceil(len(states_SD) / config.batch_size)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)

    def step(self, h_BD: Tensor) -> float:
        """One step. Returns the share of variance missed."""
        sae = self.sae
        pre_BF = sae.preactivations(h_BD)
        z_BF = self._activate(pre_BF)
        residual_BD, loss = self._reconstruct(h_BD, z_BF)
        total = loss + self._revive(pre_BF, residual_BD)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.optimiser.step()
        self.schedule.step()
        with torch.no_grad():
            sae.decoder_FD.copy_(F.normalize(sae.decoder_FD, dim=1))
            self.idle_F = torch.where((z_BF > 0).any(0), 0, self.idle_F + len(h_BD))
            return residual_BD.square().mean().item()

    def _activate(self, pre_BF: Tensor) -> Tensor:
        if self.config.kind == "topk":
            return _keep_top(pre_BF, self.config.active)
        threshold = _batch_threshold(pre_BF, self.config.active)
        self.sae.threshold_F.lerp_(threshold.expand_as(self.sae.threshold_F), 1 - THRESHOLD_DECAY)
        return _keep(pre_BF, pre_BF >= threshold)

    def _reconstruct(self, h_BD: Tensor, z_BF: Tensor) -> tuple[Tensor, Tensor]:
        """The residual, and the loss: its mean square, for matryoshka the mean over prefixes of the dictionary."""
        residual_BD, losses, begin = h_BD - self.sae.decoder_bias_D, [], 0
        for end in self.ends:
            residual_BD = residual_BD - z_BF[:, begin:end] @ self.sae.decoder_FD[begin:end]
            losses.append((residual_BD * residual_BD).mean())
            begin = end
        return residual_BD, torch.stack(losses).mean()

    def _revive(self, pre_BF: Tensor, residual_BD: Tensor) -> Tensor | float:
        """The auxiliary loss of TopK autoencoders: dead features reconstruct the residual of the others."""
        dead_F = self.idle_F >= self.config.dead_after
        if not bool(dead_F.any()):
            return 0.0
        spare_BF = _keep_top(torch.where(dead_F, pre_BF, 0.0), min(2 * self.config.active, int(dead_F.sum())))
        wanted_BD = residual_BD.detach()
        left_BD = wanted_BD - spare_BF @ self.sae.decoder_FD
        return self.config.aux_weight * (left_BD * left_BD).mean() / (wanted_BD * wanted_BD).mean()


def _batch_threshold(pre_BF: Tensor, active: int) -> Tensor:
    """The threshold with `active` features of a state above it on average; from an eighth of the batch, since sorting is slow."""
    some_BF = pre_BF.detach()[::8].relu()
    return some_BF.flatten().topk(len(some_BF) * active, sorted=False).values.min()


@torch.no_grad()
def measure_sae(sae: SparseAutoencoder, states_SD: Tensor) -> dict[str, float]:
    """Share of variance explained (0 if states do not vary), mean number of active features, share that never fires: of the discovered."""
    missed, active, fired_F = 0.0, 0.0, torch.zeros(sae.discovered, dtype=torch.bool, device=states_SD.device)
    for h_BD in states_SD.split(4096):
        z_BF = sae.encode(h_BD)[:, : sae.discovered]
        missed += float((h_BD - sae.decode(z_BF)).square().sum())
        active += float((z_BF > 0).sum())
        fired_F |= (z_BF > 0).any(0)
    variance = float((states_SD - states_SD.mean(0)).square().sum())
    explained = 1 - missed / variance if variance else 0.0
    dead = 1 - fired_F.double().mean().item()
    return {"variance_explained": explained, "active": active / len(states_SD), "dead": dead}
