"""Options that several commands have, and what they do with them first. torch and polars are imported only when a command runs."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import torch

    from steersman_training.data import Columns, Dataset

PANEL = "Columns, where they are not called as usual"

Preset = Literal["quick", "full", "large"]
SplitName = Literal["leave-one-out", "global-time"]


def _column(flag: str, text: str, default: str) -> Any:
    return typer.Option(flag, metavar="NAME", help=text, show_default=default, rich_help_panel=PANEL)


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
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UserColumn = Annotated[str | None, _column("--user-column", "The user of an interaction.", "user_id, user, userId")]
ItemColumn = Annotated[
    list[str] | None,
    _column(
        "--item-column",
        "The item, in interactions and item table. Twice, where the two differ.",
        "item_id, item, itemId, movieId",
    ),
]
TimeColumn = Annotated[
    str | None,
    _column(
        "--time-column",
        "The time of an interaction, in ISO 8601 or numbers; or `position`, its place in the user's history.",
        "timestamp, time, position",
    ),
]
RatingColumn = Annotated[str | None, _column("--rating-column", "Of the interactions, for --min-rating.", "rating")]
TitleColumn = Annotated[str | None, _column("--title-column", "Of the item table.", "title, name")]
AttributeColumns = Annotated[
    list[str] | None,
    _column(
        "--attribute-columns",
        "Of the item table, to filter and steer by. Separated by commas; repeatable.",
        "all that are informative",
    ),
]


def columns_of(
    user: str | None,
    item: list[str] | None,
    time: str | None,
    title: str | None,
    attributes: list[str] | None,
    rating: str | None = None,
) -> "Columns":
    """The columns that options name."""
    from steersman_training.data.columns import ROLES, Columns

    place = {"position" if time in ROLES["position"][1] else "timestamp": time}
    chosen = tuple(attributes or ())
    return Columns(user=user, item=tuple(item or ()), rating=rating, title=title, attributes=chosen, **place)


def load_data(
    data: str, items: Path | None, cache: Path, columns: "Columns", *, min_rating: float | None = None
) -> "Dataset":
    """Loads data, and prints its report and warnings to standard error. Raises DataError."""
    from steersman_training.data import load

    dataset = load(data, items=items, columns=columns, min_rating=min_rating, cache=cache)
    if os.environ.get("RANK", "0") == "0":  # torchrun's other workers are silent
        for line in dataset.report.lines():
            typer.echo(line, err=True)
        for warning in dataset.report.warnings:
            typer.secho(f"warning: {warning}", err=True, fg="yellow")
    return dataset


def pick_device(name: str) -> "torch.device":
    """The named device; `auto` is a GPU if there is one. Limits torch's threads to the container's CPU quota."""
    import torch
    from loky import cpu_count

    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: {name!r} is not auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, and torch finds no GPU; use auto or cpu")
    torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_finite(number: float | None, option: str) -> None:
    """Raises ValueError naming the option if its number is nan or infinite."""
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{option}: {number} is no finite number")
