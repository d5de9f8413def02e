"""Checkpoints belong to their data, split and settings; what is none is told in a line, and runs no code."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from steersman_training.data import Dataset, load
from steersman_training.data.sequences import Split, split_leave_one_out
from steersman_training.recommender import checkpoint as checkpoints
from steersman_training.recommender.checkpoint import CheckpointError
from steersman_training.recommender.fit import Fit, FitConfig
from steersman_training.recommender.model import RecommenderConfig

SHAPE = RecommenderConfig(hidden=16, window_length=20, window_stride=5)
CONFIG = FitConfig(epochs=1, events_per_batch=400, precision="float32")


@pytest.fixture(scope="module")
def data(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(str(data_dir), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def split(data: Dataset) -> Split:
    return split_leave_one_out(data)


@pytest.fixture(scope="module")
def kept(split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "run.pt"
    Fit(split, SHAPE, CONFIG, torch.device("cpu")).run(lambda _: None, path)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda split: replace(split, data_sha256="0"), "other data"),
        (lambda split: replace(split, train_ends_U=split.train_ends_U - 1), "another split"),
        (lambda split: replace(split, items=split.items[::-1]), "another split"),
    ],
)
def test_a_checkpoint_of_other_data_of_the_same_size_is_refused(
    kept: Path, split: Split, change: Callable[[Split], Split], said: str
) -> None:
    other = change(split)
    assert (len(other.items), other.item_count) == (len(split.items), split.item_count)
    with pytest.raises(CheckpointError, match=rf"run\.pt: belongs to a run with {said}.*; delete it, or name"):
        checkpoints.check(kept, checkpoints.identity(other, SHAPE, asdict(CONFIG)))
    checkpoints.check(kept, checkpoints.identity(split, SHAPE, asdict(CONFIG)))


def test_the_settings_that_differ_are_named(kept: Path, split: Split) -> None:
    with pytest.raises(CheckpointError, match="epochs: 1 there, 5 here"):
        checkpoints.check(kept, checkpoints.identity(split, SHAPE, asdict(replace(CONFIG, epochs=5))))


def test_a_checkpoint_of_other_attributes_is_refused(split: Split, tmp_path: Path) -> None:
    some_NV = (torch.arange(split.item_count)[:, None] % 4 == torch.arange(4)).float()
    path, cpu = tmp_path / "run.pt", torch.device("cpu")
    Fit(split, SHAPE, CONFIG, cpu, some_NV).run(lambda _: None, path)
    checkpoints.check(path, checkpoints.identity(split, SHAPE, asdict(CONFIG), some_NV.clone()))
    for others_NV in (some_NV.roll(1, 0), some_NV[:, :3], None):
        said = r"run\.pt: belongs to a run with other settings \(attributes: \w+ there, \w+ here\); delete it, or name"
        with pytest.raises(CheckpointError, match=said):
            Fit(split, SHAPE, CONFIG, cpu, others_NV).run(lambda _: None, path)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("kind", ["empty", "random", "cut off", "text", "tensor", "weights", "code", "folder"])
def test_what_is_no_checkpoint_is_told_in_a_line_and_runs_no_code(kept: Path, tmp_path: Path, kind: str) -> None:
    path, sprung = tmp_path / "x.pt", tmp_path / "sprung"
    match kind:
        case "empty":
            path.touch()
        case "random":
            path.write_bytes(bytes(range(256)) * 20)
        case "cut off":
            path.write_bytes(kept.read_bytes()[:-1000])
        case "text":
            path.write_text("hello\n")
        case "tensor":
            torch.save(torch.zeros(3), path)
        case "weights":
            torch.save({"weight": torch.zeros(3)}, path)
        case "code":
            torch.save({"identity": {}, "best": Trap(sprung)}, path)
        case "folder":
            path.mkdir()
    with pytest.raises(CheckpointError, match=r"x\.pt: is no .*name another place") as refused:
        checkpoints.readable(path)
    assert "\n" not in str(refused.value)
    assert not sprung.exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one_and_no_other(kept: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(kept.read_bytes())
    identity = checkpoints.read(kept)["identity"]
    (tmp_path / "x.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"x\.pt: the checkpoint cannot be written: No space left on device"):
        checkpoints.write(path, identity, {"best": torch.zeros(1 << 20)})
    assert path.read_bytes() == kept.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]
