"""The subcommands `steersman train`, `steersman evaluate` and `steersman sweep`. Imports torch only when one runs: --help stays quick."""

import json
import math
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from steersman_training.failures import flag, interruptible, plainly
from steersman_training.options import (
    AttributeColumns,
    ItemColumn,
    RatingColumn,
    TimeColumn,
    TitleColumn,
    UserColumn,
    columns_of,
    load_data,
)
from steersman_training.places import check_bundles, check_cache, check_file, check_folder, check_report
from steersman_training.printing import print_table, say


class Preset(StrEnum):
    """Named settings."""

    QUICK = "quick"
    FULL = "full"
    LARGE = "large"


class SaeKind(StrEnum):
    """Which features of an autoencoder are active."""

    TOPK = "topk"
    MATRYOSHKA = "matryoshka"


class SplitName(StrEnum):
    """How held-out events are chosen."""

    LEAVE_ONE_OUT = "leave-one-out"
    GLOBAL_TIME = "global-time"


DataOption = Annotated[
    str,
    typer.Option(
        help="movielens-100k (fetched), a MovieLens folder or zip, a file of interactions, or a folder with "
        "interactions and items, as Parquet, CSV or TSV."
    ),
]
CacheOption = Annotated[Path, typer.Option(help="Where fetched data is kept.")]
ItemsOption = Annotated[Path | None, typer.Option(help="Item table: item_id, title, and attributes.")]
PresetOption = Annotated[
    Preset,
    typer.Option(
        help="quick: about two minutes on MovieLens-100K. full: better. large: for a million events and more."
    ),
]
SplitOption = Annotated[SplitName, typer.Option(help="How held-out events are chosen.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@interruptible
def train(
    data: DataOption = "movielens-100k",
    items: ItemsOption = None,
    preset: PresetOption = Preset.QUICK,
    split: SplitOption = SplitName.LEAVE_ONE_OUT,
    out: Annotated[Path, typer.Option(help="Folder of bundles; its `current` will point to the new one.")] = Path(
        "data/bundles"
    ),
    cache: CacheOption = Path("data/cache"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    hook: Annotated[
        int | None,
        typer.Option(min=0, help="Read and edit the state after this many blocks. [default: after the last]"),
    ] = None,
    min_rating: Annotated[float | None, typer.Option(help="Leave out events rated below.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Resume from this file if it exists, and keep it up to date.")
    ] = None,
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    time_column: TimeColumn = None,
    rating_column: RatingColumn = None,
    title_column: TitleColumn = None,
    attribute_columns: AttributeColumns = None,
    as_json: JsonOption = False,
) -> None:
    """Train a recommender and its features, and write a bundle."""
    with plainly():  # before torch is imported, which takes seconds
        check_finite(min_rating, "--min-rating")
        check_bundles(out, "--out")
        check_cache(cache, data)
        if checkpoint is not None:
            check_file(checkpoint, "--checkpoint")
    from dataclasses import replace

    from steersman_training.display import RichDisplay
    from steersman_training.pipeline import train as run
    from steersman_training.presets import PRESETS
    from steersman_training.recommender.checkpoint import readable

    config = PRESETS[preset]
    with plainly():
        with flag("hook"):
            shape = replace(config.recommender, hook=hook)
        config = replace(
            config,
            split=split.value,
            recommender=shape,
            fit=replace(config.fit, seed=seed, epochs=epochs or config.fit.epochs),
            sae=replace(config.sae, seed=seed),
            concepts=replace(config.concepts, seed=seed),
        )
        columns = columns_of(user_column, item_column, time_column, title_column, attribute_columns, rating_column)
        place = pick_device(device)
        if checkpoint is not None:
            readable(checkpoint)
        dataset = load_data(data, items, cache, columns, min_rating=min_rating)
        with RichDisplay() as display:
            trained = run(dataset, config, out, place, display, checkpoint)
    if as_json:
        typer.echo(json.dumps({"bundle": str(trained.folder), "figures": trained.figures}))
        return
    _print_figures(trained.figures)
    typer.echo(f"bundle: {trained.folder}")
    say(f"Next: serve it with steersman serve --bundle {shlex.quote(str(out / 'current'))}")


@interruptible
def evaluate(
    data: DataOption = "movielens-100k",
    items: ItemsOption = None,
    preset: PresetOption = Preset.QUICK,
    seeds: Annotated[int, typer.Option(min=1, help="Runs, with seeds 0, 1, ...")] = 3,
    quality: Annotated[
        float | None, typer.Option(min=0, max=1, help="Test NDCG@10: tell how long a short schedule takes to reach it.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Report: figures in OUT.json, Markdown in OUT.md, its pictures in the folder OUT.")
    ] = Path("data/evaluation/report"),
    work: Annotated[
        Path, typer.Option(help="Folder of the recommenders and bundles. A recommender there is not trained again.")
    ] = Path("data/evaluation"),
    merge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SUFFIX=]FILE",
            help="Add the figures of a JSON file of another command, their names with a suffix if one is given. Repeatable.",
        ),
    ] = None,
    sweeps: Annotated[
        list[Path] | None, typer.Option("--sweep", help="Show a file of `steersman sweep`. Repeatable.")
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Measure nothing but --quality: read OUT.json, add figures, write the report again."
        ),
    ] = False,
    cache: CacheOption = Path("data/cache"),
    device: DeviceOption = "auto",
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    time_column: TimeColumn = None,
    title_column: TitleColumn = None,
    attribute_columns: AttributeColumns = None,
    as_json: JsonOption = False,
) -> None:
    """Train with several seeds and measure: accuracy, the autoencoder, what features mean, what controls do. Writes a report."""
    with plainly():
        check_finite(quality, "--quality")
        check_report(out, "--out")
        if not again:
            check_folder(work, "--work")
            check_bundles(work / "bundles", "--work")
        if not again or quality is not None:
            check_cache(cache, data)
    from dataclasses import replace

    from steersman_training.display import RichDisplay
    from steersman_training.evaluation.evaluation import run_evaluation, time_to_quality
    from steersman_training.evaluation.report.report import (
        check_inputs,
        plain,
        read_report,
        save,
        with_titles,
        write_report,
    )
    from steersman_training.evaluation.report.report import merge as merged
    from steersman_training.evaluation.report.sections import headline_rows
    from steersman_training.presets import PRESETS

    with plainly():
        columns = columns_of(user_column, item_column, time_column, title_column, attribute_columns)
        place = pick_device(device)
        check_inputs(merge or [], sweeps or [])
        if not again or quality is not None:
            dataset = load_data(data, items, cache, columns)
        if again:
            evaluation = read_report(out)
        else:
            with RichDisplay() as display:
                evaluation = run_evaluation(dataset, PRESETS[preset], seeds, place, display, work)
            took = {"command": shlex.join(["steersman", *sys.argv[1:]]), **evaluation.took}
            evaluation = with_titles(replace(evaluation, took=took), dataset.items["title"].to_list())
            save(evaluation, out)  # before anything that a wrong file could end
        if quality is not None:
            timed = time_to_quality(dataset, PRESETS[preset], quality, place)
            evaluation = replace(evaluation, figures=evaluation.figures | timed)
        evaluation = merged(evaluation, merge or [])
        write_report(evaluation, out, sweeps or [])
    if as_json:
        typer.echo(json.dumps(plain(evaluation.figures)))
        return
    rows = [(key, value, says) for key, value, says, _ in headline_rows(evaluation)]
    print_table(("figure", "value", "what it is"), rows, foldable="what it is")
    typer.echo(f"report: {out}.md")
    say(f"Next: read {out}.md; its pictures are in {out}.")


@interruptible
def sweep(
    data: DataOption = "movielens-100k",
    items: ItemsOption = None,
    preset: PresetOption = Preset.QUICK,
    split: SplitOption = SplitName.LEAVE_ONE_OUT,
    checkpoint: Annotated[
        Path,
        typer.Option(
            help="The recommender of this data and split; trained with the preset and kept here if there is no such file."
        ),
    ] = Path("data/sweep.pt"),
    out: Annotated[Path, typer.Option(help="A line of JSON for each finished cell; a rerun leaves those out.")] = Path(
        "data/sweep.jsonl"
    ),
    hook: Annotated[list[int] | None, typer.Option(min=0, help="Blocks below the state. [default: all]")] = None,
    kind: Annotated[list[SaeKind] | None, typer.Option(help="Which features are active.")] = None,
    features: Annotated[list[int] | None, typer.Option(min=1, help="Size of the dictionary.")] = None,
    active: Annotated[list[int] | None, typer.Option(min=1, help="Features active at a time.")] = None,
    epochs: Annotated[list[int] | None, typer.Option(min=1, help="Passes over the states.")] = None,
    prediction_weight: Annotated[list[float] | None, typer.Option(help="Part of the loss, from 0 to 1.")] = None,
    states: Annotated[list[int] | None, typer.Option(min=1, help="States to learn from. [default: all]")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Autoencoders of a cell; stability needs two.")] = 2,
    cache: CacheOption = Path("data/cache"),
    device: DeviceOption = "auto",
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    time_column: TimeColumn = None,
    title_column: TitleColumn = None,
    attribute_columns: AttributeColumns = None,
    as_json: JsonOption = False,
) -> None:
    """Train autoencoders of many settings on one recommender and compare them. An option given several times is a list."""
    with plainly():
        check_file(out, "--out")
        check_file(checkpoint, "--checkpoint")
        check_cache(cache, data)
    from dataclasses import asdict

    from steersman_training.catalogue.attributes import AttributeValues
    from steersman_training.display import RichDisplay
    from steersman_training.evaluation.sweep import Grid, cells, finished_cells, recommender, table
    from steersman_training.evaluation.sweep import sweep as run
    from steersman_training.pipeline import split_by
    from steersman_training.presets import PRESETS
    from steersman_training.recommender.checkpoint import readable

    config = PRESETS[preset]
    with plainly():
        columns = columns_of(user_column, item_column, time_column, title_column, attribute_columns)
        place = pick_device(device)
        grid = Grid(
            tuple(hook or range(config.recommender.blocks + 1)),
            tuple(one.value for one in kind) if kind else (config.sae.kind,),
            tuple(features or [config.sae.features]),
            tuple(active or [config.sae.active]),
            tuple(epochs or [config.sae.epochs]),
            tuple(prediction_weight or [config.sae.prediction_weight]),
            tuple(states or [None]),
            seeds,
        )
        with flag("hook", "features", "active", "prediction_weight"):
            todo = cells(grid, config.sae, config.recommender.blocks)
        finished_cells(out)
        readable(checkpoint)
        dataset = load_data(data, items, cache, columns)
        parts = split_by(split.value, dataset)
        with RichDisplay() as display:
            model = recommender(checkpoint, parts, config, place, display)
            values = AttributeValues.of(dataset.items, config.min_concept_items)
            rows = run(model, parts, values, todo, out, display)
    if as_json:
        typer.echo(json.dumps([{"cell": row.cell, "figures": asdict(row.figures)} for row in rows]))
        return
    lines = list(table(rows))
    print_table(tuple(lines[0]), [tuple(line.values()) for line in lines])
    say(
        f"Next: into a report with steersman evaluate --sweep {shlex.quote(str(out))}; a rerun with more settings adds cells."
    )


def pick_device(name: str) -> "torch.device":  # type: ignore[name-defined]  # noqa: F821
    """The device that is asked for; `auto` is a GPU where there is one. torch is held to the container's CPU quota."""
    import torch
    from loky import cpu_count

    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: {name!r} is not auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, and torch finds no GPU; use auto or cpu")
    torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_finite(number: float | None, option: str) -> None:
    """Raises ValueError naming the option if its number is none, or infinite."""
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{option}: {number} is no finite number")


def _print_figures(figures: dict[str, float]) -> None:
    print_table(("figure", "value"), [(name, f"{value:.4f}") for name, value in sorted(figures.items())])
