"""Two processes that torchrun starts train one recommender."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from steersman_training.data import load
from steersman_training.data.sequences import split_leave_one_out
from steersman_training.recommender.fit import Fit, FitConfig
from steersman_training.recommender.model import RecommenderConfig

SHAPE = {"hidden": 16, "window_length": 20, "window_stride": 5, "dropout": 0.1}
CONFIG = {"epochs": 8, "events_per_batch": 400, "learning_rate": 1e-2, "evaluate_every": 2, "precision": "float32"}

PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
from steersman_training.data import load
from steersman_training.recommender.fit import Fit, FitConfig
from steersman_training.recommender.model import RecommenderConfig
from steersman_training.data.sequences import split_leave_one_out
data, out, shape, config = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(1)
split = split_leave_one_out(load(str(data), cache=out))
rank = int(os.environ["RANK"])  # what each rank computes of the items may differ by rounding, and then in shape
attributes_NV = (torch.arange(split.item_count)[:, None] % 3 == torch.arange(3 + rank)).float() + 1e-3 * rank

def fit():
    return Fit(split, RecommenderConfig(**shape), FitConfig(**config), torch.device("cpu"), attributes_NV)

def stop(progress):
    if progress.epoch == config["epochs"] // 2:
        raise KeyboardInterrupt

def told(fit, fitted):
    weights = torch.cat([weight.flatten() for weight in fit.model.parameters()])
    return {
        "sum": float(weights.double().sum()), "ndcg": fitted.valid.ndcg, "epochs": fitted.epochs,
        "steps": fit.schedules[0].last_epoch,
        "attributes": fitted.attributes_VD.double().sum().item(), "values": len(fitted.attributes_VD),
        "identity": fit.identity,
    }

whole = fit()
runs = [told(whole, whole.run(lambda progress: None, out / "whole.pt"))]
try:
    fit().run(stop, out / "stopped.pt")
except KeyboardInterrupt:
    stopped = torch.load(out / "stopped.pt", weights_only=False)["epoch"]
resumed = fit()
runs.append(told(resumed, resumed.run(lambda progress: None, out / "stopped.pt")))
(out / f"{whole.workers.rank}.json").write_text(json.dumps([stopped, *runs]))
whole.workers.part()
(out / "went_on").open("a").write(str(whole.workers.rank))
"""


Told = dict[str, float]


@pytest.fixture(scope="module")
def together(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, Told, Told]]]:
    """What each of the two tells: the epoch at which the second run was stopped, the first run, and the second one as resumed."""
    out = tmp_path_factory.mktemp("workers")
    program = out / "program.py"
    program.write_text(PROGRAM)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(program)),
        *(str(data_dir), str(out), json.dumps(SHAPE), json.dumps(CONFIG)),
    ]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out, [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_workers_hold_one_model_and_the_first_goes_on_alone(
    together: tuple[Path, list[tuple[int, Told, Told]]],
) -> None:
    out, ((_, first, _), (_, second, _)) = together
    assert first == second
    assert first["values"] == 3  # the first one's attributes, though the second one has others
    assert (out / "went_on").read_text() == "0"


def test_two_workers_learn_what_one_learns(
    data_dir: Path, together: tuple[Path, list[tuple[int, Told, Told]]], tmp_path: Path
) -> None:
    split = split_leave_one_out(load(str(data_dir), cache=tmp_path))
    attributes_NV = (torch.arange(split.item_count)[:, None] % 3 == torch.arange(3)).float()
    alone = Fit(split, RecommenderConfig(**SHAPE), FitConfig(**CONFIG), torch.device("cpu"), attributes_NV)  # type: ignore[arg-type]
    fitted = alone.run(lambda progress: None)
    _, first, _ = together[1][0]
    assert first["epochs"] == fitted.epochs
    assert abs(first["steps"] - alone.schedules[0].last_epoch) <= 0.25 * first["steps"]  # batches are cut otherwise
    assert first["ndcg"] == pytest.approx(fitted.valid.ndcg, abs=0.06)


def test_two_workers_resume_what_they_left(together: tuple[Path, list[tuple[int, Told, Told]]]) -> None:
    (stopped, whole, resumed), (_, _, other) = together[1]
    assert 0 < stopped < CONFIG["epochs"]  # type: ignore[operator]
    assert resumed["sum"] == pytest.approx(whole["sum"], rel=1e-5)
    assert resumed == other
