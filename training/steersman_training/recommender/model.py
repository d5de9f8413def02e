"""SASRec (Kang & McAuley, arXiv 1808.09781) with today's blocks, tied item embeddings and a start token.

Dimensions: B batch, T time, P = T + 1 positions (the start token and T events), A some of them, D hidden, H heads, C = D / H,
N items, V attributes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize


@dataclass(frozen=True)
class RecommenderConfig:
    """Shape of the recommender."""

    hidden: int = 64
    """D, the width of the residual stream."""
    blocks: int = 2
    """Transformer blocks."""
    heads: int = 2
    """Attention heads of a block. Twice as many must divide `hidden`."""
    dropout: float = 0.3
    """Probability with which embeddings and the blocks' outputs are dropped in training."""
    window_length: int = 200
    """Events that the recommender sees at most."""
    window_stride: int = 50
    """Steps, in events, in which the window of a longer history moves."""
    hook: int | None = None
    """The hidden state is taken after this many blocks. None: after the last, where it is the query."""

    def __post_init__(self) -> None:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden: {self.hidden} is not a multiple of twice the heads, {self.heads}")
        if not 1 <= self.window_stride <= self.window_length:
            length = self.window_length
            raise ValueError(f"window_stride: {self.window_stride} is not between 1 and window_length, {length}")
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


class Rotary(nn.Module):
    """Rotary positions (Su et al., arXiv 2104.09864): attention depends on the distance of two events, not on their positions."""

    cosine_PC: Tensor
    sine_PC: Tensor

    def __init__(self, width: int, positions: int) -> None:
        """`width` is that of a head, C."""
        super().__init__()
        frequency = 10_000.0 ** (-torch.arange(width // 2) / (width // 2))
        angle_PC = torch.arange(positions)[:, None] * frequency.repeat(2)
        self.register_buffer("cosine_PC", angle_PC.cos(), persistent=False)
        self.register_buffer("sine_PC", angle_PC.sin(), persistent=False)

    def forward(self, x_BHPC: Tensor, length: int) -> Tensor:
        """Heads at positions 0, 1, ... `length` is P: traced from here, it would be a constant in ONNX."""
        return _turn(x_BHPC, self.cosine_PC[:length], self.sine_PC[:length])

    def at(self, x_BHAC: Tensor, positions_BA: Tensor) -> Tensor:
        """Heads at any A positions of each row."""
        cosine, sine = (table_PC[positions_BA].unsqueeze(1) for table_PC in (self.cosine_PC, self.sine_PC))
        return _turn(x_BHAC, cosine, sine)


def _turn(x_BHPC: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x_BHPC.chunk(2, dim=-1)
    return x_BHPC * cosine + torch.cat([-second, first], dim=-1) * sine


class RecentEvents(nn.Module):
    """x_p + sum_{j < REACH} kernel_j * x_{p-j}: a causal convolution, one kernel a dimension.

    The last events matter most, and attention alone is slow to learn it: "Canon layers" (Allen-Zhu, arXiv 2512.17351).
    """

    REACH = 3

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(self.REACH, hidden))

    def forward(self, x_BPD: Tensor) -> Tensor:
        mixed_BPD = x_BPD * (1 + self.kernel[0])
        for back in range(1, self.REACH):
            mixed_BPD = mixed_BPD + F.pad(x_BPD, (0, 0, back, 0))[:, : x_BPD.shape[1]] * self.kernel[back]
        return mixed_BPD


class BlockOutput(NamedTuple):
    """A block's states at the wanted positions, and its inputs to attention."""

    x: Tensor  # (B, P, D), or (B, D)
    normed_BPD: Tensor
    keys_BHPC: Tensor  # turned to their positions
    values_BHPC: Tensor


class Block(nn.Module):
    """x + attention(recent(norm(x))), then x + down(silu(gate) * up(norm(x))); attention is causal."""

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden, config.hidden * 8 // 3 // 8 * 8  # as many weights as an MLP of 4 D
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(hidden)
        self.recent = RecentEvents(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.rotary = Rotary(hidden // config.heads, config.window_length + 1)
        self.out = nn.Linear(hidden, hidden)
        self.mlp_norm = nn.LayerNorm(hidden)
        self.gate_up = nn.Linear(hidden, 2 * inner)
        self.down = nn.Linear(inner, hidden)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BPD: Tensor) -> Tensor:
        return self.read(x_BPD).x

    def read(self, x_BPD: Tensor) -> BlockOutput:
        """At every position."""
        normed_BPD = self.attention_norm(x_BPD)
        q, k, v = map(self.split, self.qkv(self.recent(normed_BPD)).chunk(3, dim=-1))
        length = x_BPD.shape[1]
        k = self.rotary(k, length)
        attended_BHPC = F.scaled_dot_product_attention(self.rotary(q, length), k, v, is_causal=True)
        return BlockOutput(self.mix(x_BPD, self.joined(attended_BHPC)), normed_BPD, k, v)

    def read_to_last(self, x_BPD: Tensor, lengths_B: Tensor) -> BlockOutput:
        """The state at position `lengths_B` of each row only: keys and values alone need every position."""
        normed_BPD = self.attention_norm(x_BPD)
        mixed_BPD = self.recent(normed_BPD)
        q_weight, kv_weight = self.qkv.weight.split([x_BPD.shape[2], 2 * x_BPD.shape[2]])
        q_bias, kv_bias = self.qkv.bias.split([x_BPD.shape[2], 2 * x_BPD.shape[2]])
        q_BH1C = self.split(F.linear(last_position(mixed_BPD, lengths_B), q_weight, q_bias).unsqueeze(1))
        k, v = map(self.split, F.linear(mixed_BPD, kv_weight, kv_bias).chunk(2, dim=-1))
        k = self.rotary(k, x_BPD.shape[1])
        read_BP = torch.arange(x_BPD.shape[1], device=x_BPD.device) <= lengths_B.unsqueeze(1)
        attended_BH1C = F.scaled_dot_product_attention(
            self.rotary.at(q_BH1C, lengths_B.unsqueeze(1)), k, v, attn_mask=read_BP.unsqueeze(1).unsqueeze(1)
        )
        mixed_B1D = self.mix(last_position(x_BPD, lengths_B).unsqueeze(1), self.joined(attended_BH1C))
        return BlockOutput(mixed_B1D.squeeze(1), normed_BPD, k, v)

    def split(self, x_BPD: Tensor) -> Tensor:
        """(B, P, D) -> heads, (B, H, P, C)."""
        x_BHPC: Tensor = x_BPD.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return x_BHPC

    def joined(self, x_BHPC: Tensor) -> Tensor:
        """Heads -> (B, P, D)."""
        return x_BHPC.transpose(1, 2).flatten(2)

    def mix(self, x_BPD: Tensor, attended_BPD: Tensor) -> Tensor:
        """The block after attention."""
        x_BPD = x_BPD + self.dropout(self.out(attended_BPD))
        gate, up = self.gate_up(self.mlp_norm(x_BPD)).chunk(2, dim=-1)
        mixed_BPD: Tensor = x_BPD + self.dropout(self.down(F.silu(gate) * up))
        return mixed_BPD


class FromAttributes(nn.Module):
    """Items' vectors, E = E_own + M A: a part of its own for each item, and one for each attribute that it has.

    What items with an attribute have in common is learned once, so it lies in one direction, and can be steered along it.
    """

    attributes_NV: Tensor

    def __init__(self, attributes_NV: Tensor, hidden: int) -> None:
        """`attributes_NV` is M: 1 where an item has a value, or a standard score."""
        super().__init__()
        self.vectors_VD = nn.Parameter(torch.zeros(attributes_NV.shape[1], hidden))
        self.register_buffer("attributes_NV", attributes_NV.to_sparse(), persistent=False)

    def forward(self, own_ND: Tensor) -> Tensor:
        with torch.autocast(own_ND.device.type, enabled=False):  # a sparse product has no bfloat16
            made_ND: Tensor = own_ND + torch.sparse.mm(self.attributes_NV, self.vectors_VD)
        return made_ND


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
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.hidden)
        self.apply(_initialise)
        nn.init.normal_(self.start, std=0.02)

    def learn_from(self, attributes_NV: Tensor) -> None:
        """From now on items' vectors are made of their attributes, too."""
        parametrize.register_parametrization(self.items, "weight", FromAttributes(attributes_NV, self.config.hidden))

    @torch.no_grad()
    def folded(self) -> tuple["Recommender", Tensor]:
        """A copy whose items' vectors are a plain table, of the same values; and the attributes' vectors, (V, D)."""
        plain = Recommender(self.config, len(self.biases)).to(self.biases.device)
        made = {name: value for name, value in self.state_dict().items() if not name.startswith("items.")}
        plain.load_state_dict({**made, "items.weight": self.items.weight})
        vectors_VD = plain.biases.new_zeros(0, self.config.hidden)
        if parametrize.is_parametrized(self.items, "weight"):
            vectors_VD = self.items.parametrizations.weight[0].vectors_VD.clone()  # type: ignore[union-attr,index]
        return plain.eval(), vectors_VD

    def embed(self, events_BTD: Tensor) -> Tensor:
        """Puts the start token before the events' embeddings. (B, T, D) -> (B, P, D)."""
        start_B1D = self.start + events_BTD.new_zeros(events_BTD.shape[0], 1, events_BTD.shape[2])
        embedded_BPD: Tensor = self.dropout(torch.cat([start_B1D, events_BTD], dim=1))
        return embedded_BPD

    def run_blocks(self, x_BPD: Tensor, begin: int, end: int) -> Tensor:
        """The state after block `end`, given that after block `begin`."""
        for block in list(self.blocks)[begin:end]:
            x_BPD = block(x_BPD)
        return self.norm(x_BPD) if begin < end == len(self.blocks) else x_BPD

    def hidden_states(self, ids_BT: Tensor) -> Tensor:
        """States at the hook, (B, P, D). Position p has read p events; padding on the right is not seen."""
        return self.run_blocks(self.embed(self.items(ids_BT)), 0, self.config.hook_block)

    def finish(self, x_BPD: Tensor, lengths_B: Tensor, begin: int) -> Tensor:
        """Queries at the last events, given the states after block `begin`, (B, D). The last block computes no other position."""
        x_BPD = self.run_blocks(x_BPD, begin, self.config.blocks - 1)
        query_BD: Tensor = self.norm(self.blocks[-1].read_to_last(x_BPD, lengths_B).x)  # type: ignore[operator]  # a ModuleList holds Modules
        return query_BD

    def queries(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Queries of histories, (B, D)."""
        return self.finish(self.embed(self.items(ids_BT)), lengths_B, 0)

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
