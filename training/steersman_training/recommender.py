"""SASRec (Kang & McAuley, arXiv 1808.09781), pre-norm, with tied item embeddings and a start token.

Dimensions: B batch, T time, P = T + 1 positions (the start token and T events), D hidden, N items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class RecommenderConfig:
    """Shape of the recommender."""

    hidden: int = 64
    """D, the width of the residual stream."""
    blocks: int = 2
    """Transformer blocks."""
    heads: int = 2
    """Attention heads of a block. Must divide `hidden`."""
    dropout: float = 0.3
    """Probability with which embeddings and the blocks' outputs are dropped in training."""
    window_length: int = 200
    """Events that the recommender sees at most."""
    window_stride: int = 50
    """Steps, in events, in which the window of a longer history moves."""
    hook: int | None = None
    """The hidden state is taken after this many blocks. None: after the last, where it is the query."""

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"hidden: {self.hidden} is not a multiple of heads, {self.heads}")
        if not 1 <= self.window_stride <= self.window_length:
            raise ValueError(
                f"window_stride: {self.window_stride} is not between 1 and window_length, {self.window_length}"
            )
        if not 0 <= self.hook_block <= self.blocks:
            raise ValueError(f"hook: {self.hook} is not between 0 and blocks, {self.blocks}")

    @property
    def hook_block(self) -> int:
        return self.blocks if self.hook is None else self.hook


class Dropout(nn.Module):
    """Dropout with its probability rounded to 1/256: on a CPU, masks from random bytes cost a tenth of Bernoulli draws."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.threshold = round(probability * 256)
        self.generator = np.random.Generator(np.random.SFC64())

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.threshold == 0:
            return x
        if x.is_cuda:
            return F.dropout(x, self.threshold / 256)
        drawn = torch.frombuffer(bytearray(self.generator.bytes(x.numel())), dtype=torch.uint8).view(x.shape)
        return x * (drawn >= self.threshold).to(x.dtype).mul_(256 / (256 - self.threshold))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); attention is causal."""

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.mlp_norm = nn.LayerNorm(hidden)
        self.mlp = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BPD: Tensor) -> Tensor:
        x_BPD = x_BPD + self.dropout(self._attend(self.attention_norm(x_BPD)))
        mixed_BPD: Tensor = x_BPD + self.dropout(self.mlp(self.mlp_norm(x_BPD)))
        return mixed_BPD

    def _attend(self, x_BPD: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x_BPD).chunk(3, dim=-1))
        attended_BPD: Tensor = self.out(
            F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        )
        return attended_BPD


class Recommender(nn.Module):
    """score(history, i) = query . items[i] + biases[i], query = norm(residual stream after the last block) at the last position.

    The final norm belongs to the last block: the state after it is the query, and scores are linear in it.
    """

    def __init__(self, config: RecommenderConfig, item_count: int) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(item_count, config.hidden)
        self.biases = nn.Parameter(torch.zeros(item_count))
        self.start = nn.Parameter(torch.zeros(config.hidden))
        self.positions = nn.Parameter(torch.zeros(config.window_length + 1, config.hidden))
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.hidden)
        self.apply(_initialise)
        for parameter in (self.start, self.positions):
            nn.init.normal_(parameter, std=0.02)

    def embed(self, events_BTD: Tensor) -> Tensor:
        """Puts the start token before the events' embeddings and adds positions. (B, T, D) -> (B, P, D)."""
        start_B1D = self.start + events_BTD.new_zeros(events_BTD.shape[0], 1, events_BTD.shape[2])
        x_BPD = torch.cat([start_B1D, events_BTD], dim=1)
        embedded_BPD: Tensor = self.dropout(x_BPD + self.positions[: x_BPD.shape[1]])
        return embedded_BPD

    def run_blocks(self, x_BPD: Tensor, begin: int, end: int) -> Tensor:
        """The state after block `end`, given that after block `begin`."""
        for block in list(self.blocks)[begin:end]:
            x_BPD = block(x_BPD)
        return self.norm(x_BPD) if begin < end == len(self.blocks) else x_BPD

    def hidden_states(self, ids_BT: Tensor) -> Tensor:
        """States at the hook, (B, P, D). Position p has read p events; padding on the right is not seen."""
        return self.run_blocks(self.embed(self.items(ids_BT)), 0, self.config.hook_block)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Queries at every position, (B, P, D)."""
        return self.run_blocks(self.hidden_states(ids_BT), self.config.hook_block, self.config.blocks)

    def score(self, query_BD: Tensor) -> Tensor:
        """Logits of every item, (B, N)."""
        return F.linear(query_BD, self.items.weight, self.biases)


def last_position(x_BPD: Tensor, lengths_B: Tensor) -> Tensor:
    """The row of each history's last event (of the start token, where it is empty). (B, P, D) -> (B, D)."""
    index_B11 = lengths_B.view(-1, 1, 1)
    return x_BPD.gather(1, index_B11.expand(-1, 1, x_BPD.shape[2])).squeeze(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
