"""The subcommands `steersman evaluate` and `steersman sweep`. torch is imported when one runs: --help stays quick."""

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steersman_training import options as opt
from steersman_training.failures import flag, interruptible, plainly
from steersman_training.places import check_bundles, check_cache, check_file, check_folder
from steersman_training.printing import print_table, say

if TYPE_CHECKING:
    import torch

    from steersman_training.data import Dataset
    from steersman_training.evaluation.evaluation import Evaluation
    from steersman_training.evaluation.sweep import Row
    from steersman_training.pipeline import TrainConfig


class SaeKind(StrEnum):
    """Which features of an autoencoder are active."""

    TOPK = "topk"
    MATRYOSHKA = "matryoshka"


SeedsOption = Annotated[int, typer.Option(min=1, help="Runs, with seeds 0, 1, ...")]
QualityOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="Test NDCG@10: tell how long a short schedule takes to reach it.")
]
ReportOption = Annotated[
    Path, typer.Option(help="Report: figures in OUT.json, Markdown in OUT.md, its pictures in the folder OUT.")
]
WorkOption = Annotated[
    Path, typer.Option(help="Folder of the recommenders and bundles. A recommender there is not trained again.")
]
MergeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[SUFFIX=]FILE",
        help="Add the figures of a JSON file of another command, their names with a suffix if one is given. Repeatable.",
    ),
]
SweepsOption = Annotated[
    list[Path] | None, typer.Option("--sweep", help="Show a file of `steersman sweep`. Repeatable.")
]
AgainOption = Annotated[
    bool,
    typer.Option("--again", help="Measure nothing but --quality: read OUT.json, add figures, write the report again."),
]
CheckpointOption = Annotated[
    Path,
    typer.Option(
        help="The recommender of this data and split; trained with the preset and kept here if there is no such file."
    ),
]
CellsOption = Annotated[Path, typer.Option(help="A line of JSON for each finished cell; a rerun leaves those out.")]
HooksOption = Annotated[list[int] | None, typer.Option(min=0, help="Blocks below the state. [default: all]")]
KindsOption = Annotated[list[SaeKind] | None, typer.Option(help="Which features are active.")]
FeaturesOption = Annotated[list[int] | None, typer.Option(min=1, help="Size of the dictionary.")]
ActiveOption = Annotated[list[int] | None, typer.Option(min=1, help="Features active at a time.")]
EpochsOption = Annotated[list[int] | None, typer.Option(min=1, help="Passes over the states.")]
StatesOption = Annotated[list[int] | None, typer.Option(min=1, help="States to learn from. [default: all]")]
SaesOption = Annotated[int, typer.Option(min=1, help="Autoencoders of a cell; stability needs two.")]


@interruptible
def evaluate(
    data: opt.DataOption = "movielens-100k",
    items: opt.ItemsOption = None,
    preset: opt.PresetOption = "quick",
    seeds: SeedsOption = 3,
    quality: QualityOption = None,
    out: ReportOption = Path("data/evaluation/report"),
    work: WorkOption = Path("data/evaluation"),
    merge: MergeOption = None,
    sweeps: SweepsOption = None,
    again: AgainOption = False,
    cache: opt.CacheOption = Path("data/cache"),
    device: opt.DeviceOption = "auto",
    user_column: opt.UserColumn = None,
    item_column: opt.ItemColumn = None,
    time_column: opt.TimeColumn = None,
    title_column: opt.TitleColumn = None,
    attribute_columns: opt.AttributeColumns = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Train with several seeds and measure: accuracy, the autoencoder, what features mean, what controls do. Writes a report."""
    with plainly():
        opt.check_finite(quality, "--quality")
        _check_report(out)
        if not again:
            check_folder(work, "--work")
            check_bundles(work / "bundles", "--work")
        if not again or quality is not None:
            check_cache(cache, data)
    from dataclasses import replace

    from steersman_training.evaluation.evaluation import time_to_quality
    from steersman_training.evaluation.report import report as reports
    from steersman_training.presets import PRESETS

    with plainly():
        columns = opt.columns_of(user_column, item_column, time_column, title_column, attribute_columns)
        place = opt.pick_device(device)
        reports.check_inputs(merge or [], sweeps or [])
        dataset = opt.load_data(data, items, cache, columns) if not again or quality is not None else None
        evaluation = reports.read_report(out) if again else None
        if evaluation is None:
            assert dataset is not None
            evaluation = _measure(dataset, PRESETS[preset], seeds, place, work, out)
        if quality is not None:
            assert dataset is not None
            timed = time_to_quality(dataset, PRESETS[preset], quality, place)
            evaluation = replace(evaluation, figures=evaluation.figures | timed)
        evaluation = reports.merge(evaluation, merge or [])
        reports.write_report(evaluation, out, sweeps or [])
    _show(evaluation, out, as_json=as_json)


def _check_report(out: Path) -> None:
    """Raises ValueError if `out`.json, `out`.md or a picture in the folder `out` cannot be written."""
    for ending in (".json", ".md"):
        check_file(out.with_name(out.name + ending) if out.name else out, "--out")
    check_folder(out, "--out")


def _measure(
    dataset: "Dataset", config: "TrainConfig", seeds: int, place: "torch.device", work: Path, out: Path
) -> "Evaluation":
    """Runs the evaluation and keeps its figures, before anything that a wrong file could end."""
    from dataclasses import replace

    from steersman_training.display import RichDisplay
    from steersman_training.evaluation.evaluation import run_evaluation
    from steersman_training.evaluation.report.report import save, with_titles

    with RichDisplay() as display:
        evaluation = run_evaluation(dataset, config, seeds, place, display, work)
    took = {"command": shlex.join(["steersman", *sys.argv[1:]]), **evaluation.took}
    evaluation = with_titles(replace(evaluation, took=took), dataset.items["title"].to_list())
    save(evaluation, out)
    return evaluation


def _show(evaluation: "Evaluation", out: Path, *, as_json: bool) -> None:
    from steersman_training.evaluation.report.report import plain
    from steersman_training.evaluation.report.sections import headline_rows

    if as_json:
        typer.echo(json.dumps(plain(evaluation.figures)))
        return
    rows = [(key, value, says) for key, value, says, _ in headline_rows(evaluation)]
    print_table(("figure", "value", "what it is"), rows, foldable="what it is")
    typer.echo(f"report: {out}.md")
    say(f"Next: read {out}.md; its pictures are in {out}.")


@interruptible
def sweep(
    data: opt.DataOption = "movielens-100k",
    items: opt.ItemsOption = None,
    preset: opt.PresetOption = "quick",
    split: opt.SplitOption = "leave-one-out",
    checkpoint: CheckpointOption = Path("data/sweep.pt"),
    out: CellsOption = Path("data/sweep.jsonl"),
    hook: HooksOption = None,
    kind: KindsOption = None,
    features: FeaturesOption = None,
    active: ActiveOption = None,
    epochs: EpochsOption = None,
    states: StatesOption = None,
    seeds: SaesOption = 2,
    cache: opt.CacheOption = Path("data/cache"),
    device: opt.DeviceOption = "auto",
    user_column: opt.UserColumn = None,
    item_column: opt.ItemColumn = None,
    time_column: opt.TimeColumn = None,
    title_column: opt.TitleColumn = None,
    attribute_columns: opt.AttributeColumns = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Train autoencoders of many settings on one recommender and compare them. An option given several times is a list."""
    with plainly():
        check_file(out, "--out")
        check_file(checkpoint, "--checkpoint")
        check_cache(cache, data)
    from steersman_training.display import RichDisplay
    from steersman_training.evaluation import sweep as sweeps
    from steersman_training.evaluation.evaluation import of_one_attribute
    from steersman_training.pipeline import Knowledge, split_by
    from steersman_training.presets import PRESETS
    from steersman_training.recommender.checkpoint import readable

    config = PRESETS[preset]
    sae, blocks = config.sae, config.recommender.blocks
    with plainly():
        columns = opt.columns_of(user_column, item_column, time_column, title_column, attribute_columns)
        place = opt.pick_device(device)
        grid = sweeps.Grid(
            tuple(hook or range(blocks + 1)),
            tuple(one.value for one in kind) if kind else (sae.kind,),
            tuple(features or [sae.features]),
            tuple(active or [sae.active]),
            tuple(epochs or [sae.epochs]),
            tuple(states or [None]),
            seeds,
        )
        with flag("hook", "features", "active"):
            cells = sweeps.cells(grid, sae, blocks)
        sweeps.finished_cells(out)
        readable(checkpoint)
        dataset = opt.load_data(data, items, cache, columns)
        parts = split_by(split, dataset)
        known = Knowledge.of(dataset, parts, config.min_concept_items)
        with RichDisplay() as display:
            model = sweeps.recommender(checkpoint, parts, config, known, place, display)
            rows = sweeps.sweep(model, parts, of_one_attribute(known.values), cells, out, display)
    _show_cells(rows, out, as_json=as_json)


def _show_cells(rows: "list[Row]", out: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from steersman_training.evaluation.sweep import table

    if as_json:
        typer.echo(json.dumps([{"cell": row.cell, "figures": asdict(row.figures)} for row in rows]))
        return
    lines = list(table(rows))
    print_table(tuple(lines[0]), [tuple(line.values()) for line in lines])
    say(
        f"Next: into a report with steersman evaluate --sweep {shlex.quote(str(out))}; a rerun with more settings adds cells."
    )
