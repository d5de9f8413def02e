"""Steersman's own training in turns: `Fit`, its steps counted. Arguments: Sizes and fields of FitConfig as JSON, data, cache."""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from bench.train_speed.turns import Sizes, Turns
from steersman_training.data import load
from steersman_training.data.sequences import Batch, Split, split_leave_one_out
from steersman_training.recommender.fit import Fit, FitConfig
from steersman_training.recommender.model import RecommenderConfig

FOREVER = 1_000_000


class CountedFit(Fit):
    """Tells `turns` of every step. Every real event of a batch is a target: the first has the start token before it."""

    turns: Turns

    def _step(self, batch: Batch | None) -> Tensor:
        loss = super()._step(batch)
        self.turns.step(0 if batch is None else int(batch.lengths_B.sum()))
        return loss


def open_split(data: str, cache: Path) -> Split:
    """The events that all may train on: each user's but the last two."""
    return split_leave_one_out(load(data, cache=cache, min_user_events=1))


def main() -> None:
    turns = Turns()
    sizes, fields, data, cache = Sizes.parse(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    shape = RecommenderConfig(
        hidden=sizes.hidden, blocks=sizes.blocks, heads=sizes.heads, dropout=sizes.dropout,
        window_length=sizes.length, window_stride=sizes.length,
    )  # fmt: skip
    config = FitConfig(epochs=FOREVER, evaluate_every=FOREVER, **fields)
    fit = CountedFit(open_split(data, cache), shape, config, torch.device("cpu"))
    fit.turns = turns
    turns.begin(torch=torch.__version__, threads=torch.get_num_threads(), precision=str(fit.dtype))
    fit.run(lambda progress: None)


if __name__ == "__main__":
    main()
