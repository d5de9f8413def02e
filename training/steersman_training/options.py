"""Options of the commands that read data, and the table that they show of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from steersman_training.data.columns import Columns
    from steersman_training.data.loading import Dataset

PANEL = "Columns, where they are not called as usual"


def _column(flag: str, text: str, default: str) -> Any:
    return typer.Option(flag, metavar="NAME", help=text, show_default=default, rich_help_panel=PANEL)


UserColumn = Annotated[str | None, _column("--user-column", "Of the interactions: who.", "user_id, user, userId")]
ItemColumn = Annotated[
    list[str] | None,
    _column(
        "--item-column",
        "Of the interactions and the item table: which item. Twice, where the two differ.",
        "item_id, item, itemId, movieId",
    ),
]
TimeColumn = Annotated[
    str | None,
    _column(
        "--time-column",
        "Of the interactions: when, in ISO 8601 or numbers; or `position`, the place in the user's history.",
        "timestamp, time, position",
    ),
]
RatingColumn = Annotated[str | None, _column("--rating-column", "Of the interactions, for --min-rating.", "rating")]
TitleColumn = Annotated[str | None, _column("--title-column", "Of the item table.", "title, name")]
AttributeColumns = Annotated[
    list[str] | None,
    _column(
        "--attribute-columns",
        "Of the item table: what items are filtered and steered by. With commas between them; repeatable.",
        "all that say something",
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
    from steersman_training.data.columns import GUESSES, Columns

    is_position = time in GUESSES["position"]
    return Columns(
        user=user,
        item=tuple(item or ()),
        timestamp=None if is_position else time,
        position=time if is_position else None,
        rating=rating,
        title=title,
        attributes=tuple(attributes or ()),
    )


def load_data(
    data: str, items: Path | None, cache: Path, columns: "Columns", *, min_rating: float | None = None
) -> "Dataset":
    """Loads data and shows on standard error what was read, and what is suspicious about it. Raises DataError."""
    from steersman_training.data.loading import load

    dataset = load(data, items=items, columns=columns, min_rating=min_rating, cache=cache)
    if os.environ.get("RANK", "0") == "0":  # torchrun's other workers are silent
        for line in dataset.report.lines():
            typer.echo(line, err=True)
        for warning in dataset.report.warnings:
            typer.secho(f"warning: {warning}", err=True, fg="yellow")
    return dataset
