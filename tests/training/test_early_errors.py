"""What commands refuse in the first second, in one line that names the flag or the file, with nothing trained."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from steersman_training import commands
from steersman_training.recommender import fit


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(fit.Fit, "__init__", train)


def run(command: str, *options: str) -> tuple[int, str]:
    """Exit status, and what was said, on one line."""
    app = typer.Typer()
    app.command()(getattr(commands, command))
    result = CliRunner().invoke(app, list(options))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output.strip()


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("train", ["--out", "a-file/out"], "--out: nothing can be written to"),
        ("train", ["--out", "a-file"], "--out: nothing can be written to"),
        ("train", ["--out", "taken"], "is in the way"),
        ("train", ["--checkpoint", "a-file/x.pt"], "--checkpoint: nothing can be written to"),
        ("train", ["--checkpoint", "taken"], "--checkpoint:"),
        ("train", ["--checkpoint", "a-file"], "is no checkpoint"),
        ("train", ["--data", "movielens-100k", "--cache", "a-file/cache"], "--cache: nothing can be written to"),
        ("train", ["--hook", "9"], "--hook: 9 is not between 0 and blocks, 2"),
        ("train", ["--min-rating", "nan"], "--min-rating: nan is no finite number"),
        ("sweep", ["--out", "a-file/x"], "--out: nothing can be written to"),
        ("sweep", ["--out", "a-file"], "not a file of sweeps"),
        ("sweep", ["--checkpoint", "a-file"], "is no checkpoint"),
        ("sweep", ["--features", "64", "--active", "80"], "--active: 80 is not between 1 and features, 64"),
        ("sweep", ["--hook", "9"], "--hook: 9 is not between 0 and blocks, 2"),
        ("evaluate", ["--out", "a-file/x"], "--out: nothing can be written to"),
        ("evaluate", ["--work", "a-file"], "--work: nothing can be written to"),
        ("evaluate", ["--merge", "a-file"], "a-file: not JSON"),
        ("evaluate", ["--sweep", "a-file"], "a-file: not a sweep of this version"),
        ("evaluate", ["--merge", "nowhere"], "nowhere: No such file"),
    ],
)
def test_it_is_refused_in_the_first_second(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("hello\n")
    Path("taken/current").mkdir(parents=True)
    status, output = run(command, "--data", str(data_dir), *options)
    assert (status, output.count("\n")) == (1, 0), output
    assert output.startswith("error: ")
    assert said in output


@pytest.mark.parametrize("option", ["--features", "--active", "--epochs", "--states", "--seeds"])
@pytest.mark.parametrize("number", ["0", "-1"])
def test_sizes_of_nothing_are_refused(option: str, number: str) -> None:
    status, output = run("sweep", option, number)
    assert status == 2
    assert option in output


def test_broken_recommenders_of_an_evaluation_are_found_before_the_first_seed(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("work").mkdir()
    Path("work/recommender-1.pt").touch()
    status, output = run("evaluate", "--data", str(data_dir), "--work", "work", "--out", "report", "--seeds", "2")
    assert status == 1
    assert "work/recommender-1.pt: is no checkpoint (empty" in output


def test_ctrl_c_is_a_line_that_says_what_is_kept(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fit.Fit, "__init__", interrupted)
    status, output = run("train", "--data", str(data_dir))
    assert status == 130
    assert output.splitlines()[-1].startswith("interrupted: nothing is kept; with --checkpoint FILE")
