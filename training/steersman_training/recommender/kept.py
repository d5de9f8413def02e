"""Kept tensors of a history, so that one more event costs that event alone: keys, values, and the inputs of the convolution.

Dimensions: B batch, T time, P = T + 1 positions, S = P + 1 that the new event sees, R = REACH - 1 that its convolution reads back,
D hidden, H heads, C = D / H, L = 3 tensors a block, N items.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman_training.recommender.model import Block, BlockOutput, RecentEvents, Recommender, last_position


class Kept(NamedTuple):
    """Kept tensors of one block. Attention and convolution are causal, so they do not change as the history grows."""

    keys_BPD: Tensor  # turned to their positions
    values_BPD: Tensor
    recent_BRD: Tensor  # normed states of the last R positions, oldest first; zero before the first


class Keep(nn.Module):
    """The state after the last block, as `Lower` gives it, and the kept tensors of each block."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, items_ND: Tensor, ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, ...]:
        """Rows of keys and values after position `lengths_B` are padding."""
        *blocks, last = blocks_of(self.model)
        x_BPD = self.model.embed(F.embedding(ids_BT, items_ND))
        kept: list[Tensor] = []
        for block in blocks:
            read = block.read(x_BPD)
            kept += _kept(block, read, lengths_B)
            x_BPD = read.x
        read = last.read_to_last(x_BPD, lengths_B)
        return (self.model.norm(read.x), *kept, *_kept(last, read, lengths_B))


class Append(nn.Module):
    """The state after the last block at one more event, and its new rows of the kept tensors.

    Few operations matter more than few multiplications: at one event, the cost is that of calling them.
    """

    cosine_P1C: Tensor
    sine_P1C: Tensor
    swapped_C: Tensor
    own_HD: Tensor
    places_P: Tensor

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model
        heads, width = model.config.heads, model.config.hidden // model.config.heads
        rotary = blocks_of(model)[0].rotary
        # Rotary's [-second, first] * sine, with the sign in the sine: [second, first] is one lookup.
        sign_C = torch.ones(width).index_fill(0, torch.arange(width // 2), -1.0)
        self.register_buffer("cosine_P1C", rotary.cosine_PC.unsqueeze(1))
        self.register_buffer("sine_P1C", (rotary.sine_PC * sign_C).unsqueeze(1))
        self.register_buffer("swapped_C", torch.arange(width).roll(width // 2))
        self.register_buffer("own_HD", torch.eye(heads).repeat_interleave(width, dim=1))
        self.register_buffer("places_P", torch.arange(len(rotary.cosine_PC)))

    def forward(
        self, items_ND: Tensor, new_ids_B: Tensor, kept_lengths_B: Tensor, *kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`kept` are the L tensors of `kept_lengths_B` events, in the order of `Keep`. (B, D), and (B, L, D): a row for each tensor."""
        turn = self.cosine_P1C[kept_lengths_B + 1], self.sine_P1C[kept_lengths_B + 1]
        unseen_BP = self.places_P[: kept[0].shape[1]] > kept_lengths_B.unsqueeze(1)
        unseen_B1S = F.pad(unseen_BP, (0, 1)).unsqueeze(1)
        x_BD = F.embedding(new_ids_B, items_ND)
        added: list[Tensor] = []
        for place, block in enumerate(blocks_of(self.model)):
            own = Kept(*kept[len(Kept._fields) * place : len(Kept._fields) * (place + 1)])
            x_BD, rows = self._append(block, x_BD, turn, unseen_B1S, own)
            added += rows
        return self.model.norm(x_BD), torch.cat(added, dim=1).reshape(-1, len(added), x_BD.shape[1])

    def _append(
        self, block: Block, x_BD: Tensor, turn: tuple[Tensor, Tensor], unseen_B1S: Tensor, kept: Kept
    ) -> tuple[Tensor, list[Tensor]]:
        """The block's output, and keys, values and normed state of the event, (B, D) each.

        Kept keys and values are multiplied as stored: splitting their heads, or concatenating the new ones, would copy them. So a query
        has values in its own head's dimensions and zeros elsewhere, and only those dimensions of the result are used.
        """
        heads, width = self.own_HD.shape[0], self.swapped_C.shape[0]
        normed_BD = block.attention_norm(x_BD)
        back_RD = block.recent.kernel[1:].flip(0)
        mixed_BD = normed_BD * (1 + block.recent.kernel[0]) + (kept.recent_BRD * back_RD).sum(1)
        qk, v_BD = block.qkv(mixed_BD).split([2 * heads * width, heads * width], dim=1)
        qk = qk.reshape(-1, 2 * heads, width)
        q_BHC, k_BHC = (qk * turn[0] + qk.index_select(2, self.swapped_C) * turn[1]).split(heads, dim=1)
        q_BHD = q_BHC.reshape(-1, 1, heads * width) * (self.own_HD * width**-0.5)
        k_BD1 = k_BHC.reshape(-1, heads * width, 1)
        scores_BHS = torch.cat([q_BHD.bmm(kept.keys_BPD.transpose(1, 2)), q_BHD.bmm(k_BD1)], dim=2)
        weights_BHS = scores_BHS.masked_fill(unseen_B1S, float("-inf")).softmax(-1)
        attended_BHD = weights_BHS[..., :-1].bmm(kept.values_BPD) + weights_BHS[..., -1:] * v_BD.unsqueeze(1)
        x_BD = block.mix(x_BD, (attended_BHD * self.own_HD).sum(1))
        return x_BD, [k_BD1.squeeze(2), v_BD, normed_BD]


def blocks_of(model: Recommender) -> list[Block]:
    return list(model.blocks)  # type: ignore[arg-type]  # a ModuleList holds Modules


def _kept(block: Block, read: BlockOutput, lengths_B: Tensor) -> Kept:
    reach = RecentEvents.REACH - 1
    padded_BXD = F.pad(read.normed_BPD, (0, 0, reach, 0))
    recent_BRD = torch.stack([last_position(padded_BXD, lengths_B + 1 + row) for row in range(reach)], dim=1)
    return Kept(block.joined(read.keys_BHPC), block.joined(read.values_BHPC), recent_BRD)
