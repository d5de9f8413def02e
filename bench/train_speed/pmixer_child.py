"""pmixer's SASRec.pytorch trained in turns: a checkout's own main.py. Arguments: Sizes as JSON, batch size, checkout, folder.

Its main.py runs as it is, in `folder`, where `data/events.txt` lies. Steps are counted, and turns kept, where it asks for the
next batch; its evaluation, every 20 epochs, is left out.
"""

import importlib
import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.train_speed.turns import Sizes, Turns

FOREVER = 1_000_000


def main() -> None:
    turns = Turns()
    sizes, batch, checkout, folder = Sizes.parse(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]
    code = checkout.resolve() / "python"
    os.chdir(folder)
    sys.path.insert(0, str(code))
    multiprocessing.set_start_method("fork")  # its samplers are written for it
    _count(importlib.import_module("utils"), turns)
    sys.argv[1:] = ["--dataset", "events", "--train_dir", "run", "--device", "cpu", "--num_epochs", str(FOREVER)]
    sys.argv += ["--batch_size", batch, "--maxlen", str(sizes.length), "--dropout_rate", str(sizes.dropout)]
    sys.argv += [
        "--hidden_units",
        str(sizes.hidden),
        "--num_blocks",
        str(sizes.blocks),
        "--num_heads",
        str(sizes.heads),
    ]
    runpy.run_path(str(code / "main.py"), run_name="__main__")


def _count(utils: Any, turns: Turns) -> None:
    """Puts the count into `WarpSampler.next_batch`: when a batch is asked for, the step with the one before is done."""
    next_batch, targets = utils.WarpSampler.next_batch, 0

    def counted(sampler: Any) -> tuple[Any, ...]:
        nonlocal targets
        if targets:
            turns.step(targets)
        else:
            turns.begin(torch=torch.__version__, threads=torch.get_num_threads())
        batch = tuple(next_batch(sampler))  # users, events, targets, negatives
        targets = int(np.count_nonzero(batch[2]))
        return batch

    utils.WarpSampler.next_batch = counted
    utils.evaluate = utils.evaluate_valid = lambda *_: (0.0, 0.0)


if __name__ == "__main__":
    main()
