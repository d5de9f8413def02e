"""The sweep: what a cell is, that it resumes, and what it measures."""

import json
from dataclasses import astuple, replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from steersman_training import commands
from steersman_training.autoencoder.sae import SaeConfig, train_sae
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.data import Dataset, load
from steersman_training.data.sequences import Split, split_leave_one_out
from steersman_training.evaluation.meaning.meaning import Sides
from steersman_training.evaluation.sweep import (
    Grid,
    cells,
    linear_correlation,
    load_recommender,
    recommender,
    sweep,
    table,
)
from steersman_training.pipeline import Knowledge, TrainConfig
from steersman_training.recommender import checkpoint as checkpoints
from steersman_training.recommender.fit import Fit, FitConfig
from steersman_training.recommender.model import Recommender, RecommenderConfig
from tests.conftest import Silent

BASE = SaeConfig(features=32, active=4, epochs=4, batch_size=256, learning_rate=1e-2)
GRID = Grid(hooks=(1, 2), kinds=("topk", "matryoshka"), features=(32,), active=(4,), epochs=(4,))


class Counting(Silent):
    """Counts the autoencoders that are trained; may be interrupted before one."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.trained, self.stop_after = 0, stop_after

    def sae(self, epoch: int, epochs: int, variance_explained: float) -> None:
        if self.trained == self.stop_after:
            raise KeyboardInterrupt
        self.trained += epoch == epochs


@pytest.fixture(scope="module")
def data(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(str(data_dir), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def split(data: Dataset) -> Split:
    return split_leave_one_out(data)


@pytest.fixture(scope="module")
def checkpoint(split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "run.pt"
    shape = RecommenderConfig(hidden=16, window_length=20, window_stride=5)
    config = FitConfig(epochs=6, events_per_batch=400, evaluate_every=3, learning_rate=1e-2, precision="float32")
    Fit(split, shape, config, torch.device("cpu")).run(lambda _: None, path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path, split: Split) -> Recommender:
    return load_recommender(checkpoint, split, torch.device("cpu"))


@pytest.fixture(scope="module")
def values(data: Dataset) -> AttributeValues:
    return AttributeValues.of(data.items, 5)


def test_an_interrupted_sweep_goes_on_and_a_finished_one_computes_nothing(
    model: Recommender, split: Split, values: AttributeValues, tmp_path: Path
) -> None:
    out, todo = tmp_path / "sweep.jsonl", cells(GRID, BASE)
    with pytest.raises(KeyboardInterrupt):
        sweep(model, split, values, todo, out, Counting(stop_after=3))
    assert len(out.read_text().splitlines()) == 1  # the second cell lacked its second seed
    first = out.read_text()
    out.write_text(first + '{"recommender": "cut sho')
    resumed = Counting()
    rows = sweep(model, split, values, todo, out, resumed)
    assert resumed.trained == 2 * (len(todo) - 1)
    assert out.read_text().startswith(first)
    assert [row.cell for row in rows] == [cell.as_dict() for cell in todo]
    again = Counting()
    assert sweep(model, split, values, todo, out, again) == rows
    assert again.trained == 0


def test_the_cells_of_another_recommender_are_left_alone(
    model: Recommender, split: Split, values: AttributeValues, tmp_path: Path
) -> None:
    out, todo = tmp_path / "sweep.jsonl", cells(GRID, BASE)[:1]
    sweep(model, split, values, todo, out, Silent())
    entry = json.loads(out.read_text()) | {"recommender": "another"}
    out.write_text(json.dumps(entry) + "\n")
    counting = Counting()
    sweep(model, split, values, todo, out, counting)
    assert counting.trained == 2
    assert len(out.read_text().splitlines()) == 2


def test_an_autoencoder_that_loses_little_keeps_the_lists(
    model: Recommender, split: Split, values: AttributeValues, tmp_path: Path
) -> None:
    grid = Grid((2,), ("topk",), (64,), (1, 16), (80,), seeds=1)
    coarse, fine = (row.figures for row in sweep(model, split, values, cells(grid, BASE), tmp_path / "x", Silent()))
    assert fine.variance_explained > coarse.variance_explained
    assert fine.rbo > coarse.rbo
    assert 0.8 < fine.kept < 1.2
    assert fine.stable is None
    assert 0 < fine.corr_item < 1
    assert fine.corr_item_linear == coarse.corr_item_linear
    assert fine.active == pytest.approx(16, rel=0.1)
    assert coarse.active == pytest.approx(1, rel=0.1)


def test_the_same_autoencoder_twice_is_stable(
    model: Recommender, split: Split, values: AttributeValues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid((2,), ("topk",), (64,), (4,), (4,))
    apart = sweep(model, split, values, cells(grid, BASE), tmp_path / "apart", Silent())[0].figures.stable
    monkeypatch.setattr(
        "steersman_training.evaluation.sweep.train_sae",
        lambda h_SD, config, *rest: train_sae(h_SD, replace(config, seed=0), *rest),
    )
    same = sweep(model, split, values, cells(grid, BASE), tmp_path / "same", Silent())[0].figures.stable
    assert apart is not None
    assert same == pytest.approx(1)


def test_the_linear_read_out_finds_what_no_single_neuron_tells() -> None:
    x_SD = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    told_SV = torch.stack([x_SD.sum(1), x_SD[:, 0]], dim=1) + 5
    noise_SV = torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    states = Sides(x_SD[:2000], x_SD[2000:])
    assert linear_correlation(states, Sides(told_SV[:2000], told_SV[2000:])) == pytest.approx(1)
    assert abs(linear_correlation(states, Sides(noise_SV[:2000], noise_SV[2000:]))) < 0.1


def test_rows_of_a_version_that_measured_less_are_still_read(
    model: Recommender, split: Split, values: AttributeValues, tmp_path: Path
) -> None:
    out, todo = tmp_path / "sweep.jsonl", cells(GRID, BASE)[:1]
    sweep(model, split, values, todo, out, Silent())
    entry = json.loads(out.read_text())
    del entry["figures"]["corr_item_linear"]
    out.write_text(json.dumps(entry) + "\n")
    (row,) = sweep(model, split, values, todo, out, Silent())
    assert row.figures.corr_item_linear is None
    assert [line["corr_item_linear"] for line in table([row])] == ["-"]


def test_the_table_names_what_differs(
    model: Recommender, split: Split, values: AttributeValues, tmp_path: Path
) -> None:
    rows = sweep(model, split, values, cells(GRID, BASE), tmp_path / "sweep.jsonl", Silent())
    lines = list(table(rows))
    assert list(lines[0])[:2] == ["hook", "kind"]
    assert len(lines[0]) == 2 + len(astuple(rows[0].figures))
    assert not list(table([]))


def test_a_checkpoint_of_other_data_is_refused(checkpoint: Path, split: Split) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match=r"run\.pt: belongs to a run with other data"):
        load_recommender(checkpoint, replace(split, data_sha256="of others"), cpu)
    shorter = replace(split, train_ends_U=split.train_ends_U - 1)
    with pytest.raises(ValueError, match=r"run\.pt: belongs to a run with another split"):
        load_recommender(checkpoint, shorter, cpu)


def test_a_recommender_that_is_not_there_is_trained_as_the_pipeline_trains_it(
    data: Dataset, split: Split, tmp_path: Path
) -> None:
    fit = FitConfig(epochs=1, events_per_batch=400, precision="float32")
    config = TrainConfig(
        RecommenderConfig(hidden=16, window_length=20, window_stride=5), fit, BASE, min_concept_items=5
    )
    known, path, cpu = Knowledge.of(data, split, config.min_concept_items), tmp_path / "new.pt", torch.device("cpu")
    trained = recommender(path, split, config, known, cpu, Silent())
    checkpoints.check(path, known.identity(split, config))
    again = recommender(path, split, config, known, cpu, Silent())
    assert torch.equal(trained.items.weight, again.items.weight)
    fitted = Fit(split, config.recommender, fit, cpu, known.attributes_NV).run(lambda _: None)
    assert torch.equal(trained.items.weight, fitted.model.items.weight)
    assert fitted.attributes_VD.abs().sum() > 0


def test_the_command_prints_json_and_refuses_what_it_does_not_know(
    checkpoint: Path, data_dir: Path, tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command()(commands.sweep)
    options = ["--data", str(data_dir), "--cache", str(tmp_path), "--checkpoint", str(checkpoint)]
    options += ["--features", "32", "--active", "4", "--epochs", "2", "--hook", "2", "--seeds", "1", "--json"]
    options += ["--out", str(tmp_path / "sweep.jsonl")]
    result = CliRunner().invoke(app, [*options, "--kind", "topk", "--kind", "matryoshka"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert [row["cell"]["kind"] for row in printed] == ["topk", "matryoshka"]
    # What was asked for and what came of it have names in common.
    assert printed[0]["cell"]["active"] == 4 >= printed[0]["figures"]["active"] > 0
    assert CliRunner().invoke(app, [*options, "--hook", "9"]).exit_code == 1
