"""Trains the recommender: next-item cross-entropy, Muon and AdamW, cosine decay, averaged weights, early stopping."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from steersman_training.data.sequences import Batch, IntArray, Split, pad, training_groups
from steersman_training.recommender import checkpoint as checkpoints
from steersman_training.recommender.model import Dropout, Recommender, RecommenderConfig
from steersman_training.recommender.ranking import MOST_USERS, RankingMetrics, evaluate
from steersman_training.recommender.workers import Workers

MEASURED_STEPS = 10  # in each precision; the shortest counts, so that other programs on the machine do not decide
WORTH_IT = 0.7  # part of float32's time that bfloat16 may take at most to be chosen


@dataclass(frozen=True)
class FitConfig:
    """How the recommender is trained."""

    epochs: int = 40
    """Passes over the training events at most."""
    learning_rate: float = 2e-3
    """Peak of AdamW's, for embeddings, biases and norms; reached after a thirtieth of the steps, cosine to zero afterwards."""
    matrix_learning_rate: float = 0.02
    """Peak of Muon's, for the matrices of the blocks, on the same schedule."""
    weight_decay: float = 0.01
    """Of matrices only, times the learning rate."""
    events_per_batch: int = 3200
    """Batch size in events, padding included, over all workers."""
    negatives: int | None = None
    """Shared negatives of a sampled softmax with log-Q correction. None: full cross-entropy up to 20,000 items, 1,024 above."""
    average_epochs: float = 3.0
    """Horizon of the exponential average of the weights, in epochs. 0: no averaging."""
    evaluate_every: int = 5
    """Epochs between validations (and checkpoints)."""
    patience: int = 4
    """Validations without a better NDCG@10 after which training stops."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix products. auto: bfloat16 where a measurement at the start finds it faster. A resumed run keeps what it began with."""
    seed: int = 0
    """Of weights, order of batches, dropout and negatives."""


class Progress(NamedTuple):
    """The state after an epoch, for a progress display."""

    epoch: int
    epochs: int
    loss: float
    valid_ndcg: float | None
    """None: nothing was validated yet."""
    seconds_left: float


class FittedRecommender(NamedTuple):
    """The recommender with the best validation NDCG@10, in evaluation mode."""

    model: Recommender
    attributes_VD: Tensor
    """Vectors of the attributes, which items' vectors have in them: a new item's vector can be made of them."""
    valid: RankingMetrics
    epochs: int
    seconds: float


class Fit:
    """One training run, of one process or of several that torchrun started. A checkpoint holds its state."""

    def __init__(
        self,
        split: Split,
        shape: RecommenderConfig,
        config: FitConfig,
        device: torch.device,
        attributes_NV: Tensor | None = None,
    ) -> None:
        """`attributes_NV`: what items' vectors are made of beside their own part, 1 where an item has a value, or standard scores.

        Of several workers, all take the first one's.
        """
        torch.manual_seed(config.seed)
        self.split, self.config, self.device = split, config, device
        self.validated = split.valid.sample(MOST_USERS, seed=0)
        self.workers = Workers.join(device)
        if attributes_NV is not None:
            attributes_NV = self.workers.first_table(attributes_NV.contiguous(), device)
        self.identity = checkpoints.identity(split, shape, asdict(config), attributes_NV)
        self.model = Recommender(shape, split.item_count)
        if attributes_NV is not None:
            self.model.learn_from(attributes_NV)
        self.model.to(device)
        negatives = config.negatives or (None if split.item_count <= 20_000 else 1_024)
        self.negatives = negatives and min(negatives, split.item_count)
        popularity = torch.from_numpy(split.popularity()).to(device) + 1.0
        self.proposal_N = (popularity / popularity.sum()).float()
        self.dtype = self._pick_dtype() if config.precision == "auto" else getattr(torch, config.precision)
        self.average = copy.deepcopy(self.model).eval()
        self.best, self.best_attributes_VD = _state(self.average)
        self.best_ndcg, self.stale, self.epoch, self.seconds = -1.0, 0, 0, 0.0
        events = int(split.train_ends_U.sum())
        self.steps_per_epoch = max(1, math.ceil(events / config.events_per_batch))
        self.optimisers = _optimisers(self.model, config)
        self.schedules = [torch.optim.lr_scheduler.LambdaLR(one, self._rate) for one in self.optimisers]

    def _pick_dtype(self) -> torch.dtype:
        """bfloat16 on a GPU that has it, and on a CPU where steps are measured to be faster with it; float32 elsewhere."""
        if self.device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        batch = pad(self._groups(np.random.default_rng(0))[0])
        seconds: dict[torch.dtype, float] = {}
        for _ in range(MEASURED_STEPS):
            for self.dtype in (torch.float32, torch.bfloat16):
                began = time.perf_counter()
                self._forward(batch).backward()
                seconds[self.dtype] = min(seconds.get(self.dtype, math.inf), time.perf_counter() - began)
            if seconds[torch.bfloat16] > 4 * seconds[torch.float32]:
                break  # emulated: each step may take a second
        self.model.zero_grad(set_to_none=True)
        slower = seconds[torch.bfloat16] >= WORTH_IT * seconds[torch.float32]
        return torch.float32 if self.workers.agree(slower, self.device) else torch.bfloat16

    def _rate(self, step: int) -> float:
        total = self.steps_per_epoch * self.config.epochs
        warmup = max(1, total // 30)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    def run(self, report: Callable[[Progress], None], checkpoint: Path | None = None) -> FittedRecommender:
        """Trains to the end. With a checkpoint path, resumes from it and keeps it up to date.

        Raises CheckpointError if it is broken, cannot be written, or belongs to other data, another split or other settings.
        """
        self._resume(checkpoint)
        valid_ndcg = self.best_ndcg if self.best_ndcg >= 0 else None
        while self.epoch < self.config.epochs and self.stale < self.config.patience:
            began = time.monotonic()
            loss = self._train_epoch()
            self.epoch += 1
            validates = self.epoch % self.config.evaluate_every == 0 or self.epoch == self.config.epochs
            if validates:
                valid_ndcg = self._validate()
            self.seconds += time.monotonic() - began
            if validates and checkpoint is not None:
                self.save(checkpoint)
            left = self.seconds / self.epoch * (self.config.epochs - self.epoch)
            report(Progress(self.epoch, self.config.epochs, loss, valid_ndcg, left))
        model = Recommender(self.model.config, self.split.item_count).to(self.device)
        model.load_state_dict(self.best)
        valid = evaluate(model, self.split, self.validated)
        return FittedRecommender(model.eval(), self.best_attributes_VD, valid, self.epoch, self.seconds)

    def _train_epoch(self) -> float:
        self.model.train()
        seeds = [self.config.seed, self.epoch, self.workers.rank]
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        dropouts = (module for module in self.model.modules() if isinstance(module, Dropout))
        for index, dropout in enumerate(dropouts):
            dropout.generator = np.random.Generator(np.random.SFC64([*seeds, index]))
        groups = self._groups(np.random.default_rng(seeds))
        steps = self.workers.most(len(groups), self.device)
        losses = [self._step(pad(groups[step]) if step < len(groups) else None) for step in range(steps)]
        return float(torch.stack(losses).mean())

    def _groups(self, rng: np.random.Generator) -> list[list[IntArray]]:
        """This worker's share of an epoch: every `size`-th user, and as small a part of each batch."""
        rank, size = self.workers
        events, length = max(1, self.config.events_per_batch // size), self.model.config.window_length
        return training_groups(self.split, length, events, rng, range(rank, self.split.users, size))

    def _forward(self, batch: Batch) -> Tensor:
        low = torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
        with parametrize.cached(), low:  # items' vectors are made once a step
            return self._loss(*(torch.from_numpy(part).to(self.device) for part in batch))

    def _step(self, batch: Batch | None) -> Tensor:
        """None: this worker has no events left, others have."""
        self.model.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device) if batch is None else self._forward(batch)
        if batch is not None:
            loss.backward()
        self.workers.share_gradients(self.model, 0 if batch is None else int(batch.lengths_B.sum()))
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser, schedule in zip(self.optimisers, self.schedules, strict=True):
            optimiser.step()
            schedule.step()
        self._average()
        return loss.detach()

    def _loss(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Mean cross-entropy of each event given those before it."""
        queries = self.model(ids_BT[:, :-1])
        real_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]
        query_ED, targets_E = queries[real_BT], ids_BT[real_BT]
        if self.negatives is None:
            return F.cross_entropy(self.model.score(query_ED).float(), targets_E)
        return self._sampled_loss(query_ED, targets_E)

    def _sampled_loss(self, query_ED: Tensor, targets_E: Tensor) -> Tensor:
        """Sampled softmax with shared negatives and log-Q correction (Bengio & Senecal 2008)."""
        assert self.negatives is not None
        drawn_S = torch.multinomial(self.proposal_N, self.negatives, replacement=True)
        items, biases = self.model.items.weight, self.model.biases
        negative_ES = F.linear(query_ED, items[drawn_S], biases[drawn_S]).float() - self.proposal_N[drawn_S].log()
        negative_ES = negative_ES.masked_fill(targets_E[:, None] == drawn_S, -math.inf) - math.log(self.negatives)
        positive_E = (query_ED * items[targets_E]).sum(-1).float() + biases[targets_E]
        logits = torch.cat([positive_E[:, None], negative_ES], dim=1)
        return F.cross_entropy(logits, torch.zeros_like(targets_E))

    @torch.no_grad()
    def _average(self) -> None:
        horizon = self.config.average_epochs * self.steps_per_epoch
        weight = 1.0 if horizon <= 0 else max(1 / horizon, 1 / (1 + self.schedules[0].last_epoch))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), weight)

    def _validate(self) -> float:
        folded, _ = self.average.folded()
        mine = evaluate(folded, self.split, self.validated).ndcg if self.workers.rank == 0 else 0.0
        ndcg = self.workers.agree(mine, self.device)
        better = ndcg > self.best_ndcg
        self.stale = 0 if better else self.stale + 1
        if better:
            self.best_ndcg = ndcg
            self.best, self.best_attributes_VD = _state(self.average)
        return ndcg

    _STATE = ("best", "best_attributes_VD", "best_ndcg", "stale", "epoch", "seconds", "dtype")

    def save(self, checkpoint: Path) -> None:
        """Writes the state, if this is the first worker. Raises CheckpointError."""
        if self.workers.rank:
            return
        state: dict[str, Any] = {name: getattr(self, name) for name in self._STATE}
        state["modules"] = [module.state_dict() for module in self._modules()]
        checkpoints.write(checkpoint, self.identity, state)

    def _resume(self, checkpoint: Path | None) -> None:
        if checkpoint is None or not checkpoint.exists():
            return
        state = checkpoints.read(checkpoint, self.device)
        checkpoints.match(checkpoint, state["identity"], self.identity)
        try:
            for name in self._STATE:
                setattr(self, name, state[name])
            for module, saved in zip(self._modules(), state["modules"], strict=True):
                module.load_state_dict(saved)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoints.broken(checkpoint) from error

    def _modules(self) -> list[Any]:
        return [self.model, self.average, *self.optimisers, *self.schedules]


def _state(model: Recommender) -> tuple[dict[str, Any], Tensor]:
    """The state of its folded copy, as a plain recommender loads it, and the attributes' vectors."""
    folded, attributes_VD = model.folded()
    return folded.state_dict(), attributes_VD


def _optimisers(model: Recommender, config: FitConfig) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for the rest: by far the fastest combination that was tried."""
    named = model.blocks.named_parameters()
    matrices = [weight for name, weight in named if name.endswith(".weight") and weight.ndim == 2]
    others = [weight for weight in model.parameters() if all(weight is not matrix for matrix in matrices)]
    groups = [
        {"params": [weight for weight in others if weight.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in others if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True),
        torch.optim.Muon(matrices, lr=config.matrix_learning_rate, weight_decay=config.weight_decay),
    ]
