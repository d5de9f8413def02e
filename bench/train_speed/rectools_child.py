"""RecTools' SASRec trained in turns, in the peers' virtual environment. Arguments: Sizes as JSON, batch size, training events."""

import sys
from typing import Any

import pandas as pd
import pytorch_lightning
import rectools
import torch
from pytorch_lightning.callbacks import LambdaCallback
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from bench.train_speed.turns import Sizes, Turns


def main() -> None:
    turns = Turns()
    sizes, batch, path = Sizes.parse(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

    def begin(*_: Any) -> None:
        turns.begin(rectools=rectools.__version__, torch=torch.__version__, threads=torch.get_num_threads())

    def count(trainer: Any, module: Any, outputs: Any, batch: dict[str, torch.Tensor], index: int) -> None:
        turns.step(int(batch["y"].count_nonzero()))

    def trainer() -> Any:
        """RecTools' default one, but that it goes on until it is ended, and calls back."""
        callback = LambdaCallback(on_train_start=begin, on_train_batch_end=count)
        return pytorch_lightning.Trainer(
            max_epochs=-1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
        )  # fmt: skip

    model = SASRecModel(
        n_factors=sizes.hidden, n_blocks=sizes.blocks, n_heads=sizes.heads, dropout_rate=sizes.dropout,
        session_max_len=sizes.length, batch_size=batch, get_trainer_func=trainer,
    )  # fmt: skip
    model.fit(_dataset(path))


def _dataset(path: str) -> Any:
    """Events as RecTools wants them: of weight 1, and a day apart."""
    frame = pd.read_csv(path, sep=" ", names=["user_id", "item_id"])
    frame["weight"] = 1.0
    frame["datetime"] = pd.Timestamp(0) + pd.to_timedelta(frame.groupby("user_id").cumcount(), unit="D")
    return Dataset.construct(frame)


if __name__ == "__main__":
    main()
