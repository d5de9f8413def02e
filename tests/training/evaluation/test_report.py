"""The report of an evaluation: of a tiny one, from end to end."""

import itertools
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from steersman_training import commands
from steersman_training.autoencoder.sae import SaeConfig
from steersman_training.catalogue.concepts import ConceptConfig
from steersman_training.data import Dataset, load
from steersman_training.data.sequences import split_leave_one_out
from steersman_training.evaluation.evaluation import Evaluation, run_evaluation, time_to_quality
from steersman_training.evaluation.report.report import (
    merge,
    plain,
    read_report,
    read_sweep,
    save,
    with_titles,
    write_report,
)
from steersman_training.evaluation.report.sections import headline_rows
from steersman_training.evaluation.sweep import Cell, CellFigures, load_recommender
from steersman_training.pipeline import Knowledge, TrainConfig
from steersman_training.recommender import checkpoint as checkpoints
from steersman_training.recommender import ranking
from steersman_training.recommender.fit import Fit, FitConfig
from steersman_training.recommender.model import RecommenderConfig
from tests.conftest import Silent

CONFIG = TrainConfig(
    RecommenderConfig(hidden=16, window_length=20, window_stride=5, dropout=0.1),
    FitConfig(epochs=12, events_per_batch=400, learning_rate=1e-2, evaluate_every=4, precision="float32"),
    SaeConfig(features=64, active=8, epochs=20, batch_size=128, dead_after=4000),
    ConceptConfig(),
    min_concept_items=5,
)
KEYS = {
    *("ndcg", "hr", "kept_reconstructed", "rbo_reconstructed", "corr_item", "corr_item_x_neuron", "corr_list_x_neuron"),
    *("stable", "concept_to_boost", "concept_to_boost_50", "feature_to_boost", "one_feature_share_x"),
    *("tail_coverage_x_popsteer", "monotone", "concept_features", "concept_strength", "concept_strength_95"),
    *("concepts_within_2", "sign_agreement", "label_agreement", "anchor_corr_item", "anchor_corr_list", "detection"),
    *("anchor_detection", "labelled", "labelled_listed", "steerable", "contradicting", "contradicting_of"),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def data(data_dir: Path, work: Path) -> Dataset:
    return load(str(data_dir), cache=work)


@pytest.fixture(scope="module")
def evaluation(data: Dataset, work: Path) -> Evaluation:
    measured = run_evaluation(data, CONFIG, 1, torch.device("cpu"), Silent(), work)
    return with_titles(measured, data.items["title"].to_list())


@pytest.fixture(scope="module")
def out(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "tiny"
    write_report(evaluation, path)
    return path


def strict(text: str) -> Any:
    """JSON as the standard has it: Python's NaN and Infinity are refused."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_every_figure_stands_under_its_key(out: Path) -> None:
    content = strict(out.with_name("tiny.json").read_text())
    assert set(content) == {"data", "figures", "intervals", "took", "settings", "runs"}
    assert KEYS - set(content["figures"]) == set()
    assert all(isinstance(content["figures"][key], int | float) for key in KEYS)
    (interval,) = content["intervals"]["concept_to_boost"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert content["took"]["seeds"] == 1


def test_figures_of_concepts_and_features_are_shares_and_counts(evaluation: Evaluation) -> None:
    figures = evaluation.figures
    assert figures["concept_features"] == 1
    shares = ("concepts_within_2", "sign_agreement", "label_agreement", "labelled", "labelled_listed", "steerable")
    assert all(0 <= figures[key] <= 1 for key in shares)
    assert 0 <= figures["contradicting"] <= figures["contradicting_of"] <= CONFIG.sae.features
    assert figures["concept_strength"] <= figures["concept_strength_95"]
    assert figures["concept_rise_quartiles"] == sorted(figures["concept_rise_quartiles"])
    assert len(figures["feature_rise_quartiles"]) == 3
    (run,) = evaluation.runs
    assert {row["kind"] for row in run.features} == {"discovered", "anchored"}
    assert [fit.value for fit in run.anchors] == [value.value for value in run.meaning.item.values]
    assert all(value.feature.unit < CONFIG.sae.features for value in run.meaning.item.values)


def test_its_recommenders_are_kept_for_other_commands(evaluation: Evaluation, data: Dataset, work: Path) -> None:
    split = split_leave_one_out(data)
    known, path = Knowledge.of(data, split, CONFIG.min_concept_items), work / "recommender-0.pt"
    checkpoints.check(path, known.identity(split, CONFIG.seeded(0)))
    model = load_recommender(path, split, torch.device("cpu"))
    assert ranking.evaluate(model, split, split.test).ndcg == pytest.approx(evaluation.figures["ndcg"])
    with pytest.raises(checkpoints.CheckpointError, match="attributes"):
        checkpoints.check(path, known._replace(aims=known.aims[1:]).identity(split, CONFIG.seeded(0)))


def test_time_to_quality_trains_what_the_pipeline_trains(data: Dataset) -> None:
    config = replace(CONFIG, fit=replace(CONFIG.fit, epochs=5))
    timed = time_to_quality(data, config, 0.0, torch.device("cpu"))
    split = split_leave_one_out(data)
    attributes_NV = Knowledge.of(data, split, config.min_concept_items).attributes_NV
    fit = Fit(
        split, config.recommender, replace(config.fit, epochs=1, evaluate_every=1), torch.device("cpu"), attributes_NV
    )
    fitted = fit.run(lambda progress: None)
    assert timed["minutes_to_0_epochs"] == 1
    assert timed["minutes_to_0_ndcg"] == pytest.approx(ranking.evaluate(fitted.model, split, split.test).ndcg)


def test_the_report_can_be_written_again_from_the_json(evaluation: Evaluation, out: Path) -> None:
    again = read_report(out)
    assert plain(asdict(again)) == plain(asdict(evaluation))
    rewritten = out.with_name("again")
    write_report(again, rewritten)
    assert rewritten.with_name("again.json").read_text() == out.with_name("tiny.json").read_text()


def test_pictures_lie_where_the_report_shows_them(out: Path) -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", out.with_name("tiny.md").read_text())
    assert shown == [f"tiny/{name}.png" for name in ("separation", "pareto", "strengths", "popularity")]
    assert all((out.parent / name).read_bytes().startswith(b"\x89PNG") for name in shown)


def test_tables_are_whole(out: Path) -> None:
    lines = out.with_name("tiny.md").read_text().splitlines()
    tables = [
        (above, line) for above, line in itertools.pairwise(lines) if above.startswith("| ") and line.startswith("| ")
    ]
    assert len(tables) > 100
    columns = [[re.sub(r"\\\|", "", line).count("|") for line in pair] for pair in tables]
    assert all(above == below for above, below in columns)


def test_sections_say_what_was_measured(evaluation: Evaluation, out: Path) -> None:
    text = out.with_name("tiny.md").read_text()
    for title in (
        "Accuracy",
        "Autoencoder",
        "Meaning",
        "Control",
        "Popularity",
        "The anchored features",
        "The best features",
        "The worst features",
    ):
        assert f"\n## {title}\n" in text
    assert f"| `ndcg` | {evaluation.figures['ndcg']:.3f} |" in text
    assert "| genres: Horror |" in text
    assert "Film " in text.partition("## The best features")[2]
    assert "published or prototype" not in text


def test_published_figures_stand_beside_those_of_the_same_data(evaluation: Evaluation) -> None:
    assert {row[3] for row in headline_rows(evaluation)} == {""}
    assert "0.1821" in next(row[3] for row in headline_rows(replace(evaluation, data="ml-1m")))


def test_an_evaluation_without_attributes_or_controls_is_reported(evaluation: Evaluation, tmp_path: Path) -> None:
    (run,) = evaluation.runs
    nothing = replace(run.meaning.item, values=())
    bare = replace(
        run,
        meaning=replace(run.meaning, item=nothing, lists=nothing),
        probes=replace(run.probes, item=(), lists=()),
        anchors=(),
        control=replace(run.control, attributes=[], features=[], tail=[], intervals={}),
    )
    write_report(replace(evaluation, runs=[bare]), tmp_path / "bare")
    assert "![" not in (tmp_path / "bare.md").read_text()


def test_what_is_no_number_is_null() -> None:
    assert plain({"a": math.nan, "b": (math.inf, 1 / 3, 2, True, "x", None)}) == {
        "a": None,
        "b": [None, 0.333333, 2, True, "x", None],
    }


def test_a_figure_that_is_no_number_comes_back_as_none(evaluation: Evaluation, tmp_path: Path) -> None:
    (run,) = evaluation.runs
    broken = replace(run, stability=replace(run.stability, cosine=math.nan))
    save(replace(evaluation, runs=[broken]), tmp_path / "nan")
    strict((tmp_path / "nan.json").read_text())
    assert math.isnan(read_report(tmp_path / "nan").runs[0].stability.cosine)


def test_figures_of_other_commands_are_added(evaluation: Evaluation, tmp_path: Path) -> None:
    speed, other = tmp_path / "speed.json", tmp_path / "other.json"
    speed.write_text(json.dumps({"train_speed_rectools": 3.5, "rounds": [1], "ok": True}))
    other.write_text(json.dumps({"figures": {"concept_to_boost": 0.95, "missing": None}}))
    merged = merge(evaluation, [str(speed), f"100k={other}"])
    assert merged.figures == {**evaluation.figures, "train_speed_rectools": 3.5, "concept_to_boost_100k": 0.95}
    assert merged.took["measured_by_other_commands"] == {
        "speed.json": ["train_speed_rectools"],
        "other.json": ["concept_to_boost_100k"],
    }
    speed.write_text(json.dumps({"train_speed_rectools": 4.0}))
    assert merge(merged, [str(speed)]).figures["train_speed_rectools"] == 4.0
    write_report(merged, tmp_path / "merged")
    assert (
        "train_speed_rectools (speed.json); concept_to_boost_100k (other.json)." in (tmp_path / "merged.md").read_text()
    )


def test_figures_are_not_measured_twice(evaluation: Evaluation, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"figures": {"ndcg": 0.95}}))
    with pytest.raises(ValueError, match=r"other\.json: this evaluation has ndcg itself"):
        merge(evaluation, [str(other)])


def test_a_sweep_is_shown(evaluation: Evaluation, tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    cells = [
        Cell(hook=2, states=None, seeds=1, sae=SaeConfig(features=64, active=active)).as_dict() for active in (8, 16)
    ]
    figures = asdict(CellFigures(0.9, 8.0, 0.0, 0.98, 0.8, 0.6, 2.0, 0.7, 1.9, None, 3.0))
    lines = [json.dumps({"recommender": "a", "cell": cell, "figures": figures}) + "\n" for cell in cells]
    file.write_text("".join(lines) + lines[0][:20])
    assert len(read_sweep(file)) == 2
    write_report(evaluation, tmp_path / "swept", [file])
    text = (tmp_path / "swept.md").read_text().partition("## Sweeps")[2]
    assert "### sweep.jsonl" in text
    assert "| active (set) | variance_explained |" in text
    assert "| 16 | 0.900 |" in text


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text('{"data": 3}')
    with pytest.raises(ValueError, match=r"odd\.json: not a report of this version"):
        read_report(tmp_path / "odd")
    path.write_text('{"cell": {}}\n')
    with pytest.raises(ValueError, match=r"odd\.json: not a sweep of this version"):
        read_sweep(path)


def test_the_command_writes_a_report_again_with_more_figures(evaluation: Evaluation, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(commands.evaluate)
    save(evaluation, tmp_path / "kept")
    speed = tmp_path / "speed.json"
    speed.write_text(json.dumps({"train_speed_pmixer": 2.5}))
    options = ["--again", "--out", str(tmp_path / "kept"), "--merge", str(speed)]
    result = CliRunner().invoke(app, [*options, "--json"])
    assert result.exit_code == 0, result.output
    assert strict(result.stdout) == {**plain(evaluation.figures), "train_speed_pmixer": 2.5}
    assert "| `train_speed_pmixer` | 2.500 |" in (tmp_path / "kept.md").read_text()
    assert "train_speed_pmixer" in CliRunner().invoke(app, options).stdout
    assert CliRunner().invoke(app, ["--again", "--out", str(tmp_path / "absent")]).exit_code == 1
