"""Answers as data frames, where polars is installed."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polars import DataFrame as DataFrame
else:
    DataFrame = Any


def frame(records: Iterable[Any]) -> DataFrame:
    """Answers of one kind, such as features, a row each; dataclasses inside become columns like "effect.share_after".

    Raises ImportError where polars is not installed.
    """
    return frame_of(_flat(record) for record in records)


def frame_of(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """Raises ImportError where polars is not installed."""
    try:
        import polars
    except ImportError as error:
        raise ImportError("frames are polars data frames: pip install polars") from error
    return polars.DataFrame([*rows], infer_schema_length=None)


def _flat(record: Any, prefix: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            row |= _flat(value, f"{prefix}{field.name}.")
        else:
            row[f"{prefix}{field.name}"] = _plain(value)
    return row


def _plain(value: Any) -> Any:
    """As a column takes it: dataclasses in lists become dictionaries."""
    if isinstance(value, tuple):
        return [_flat(part) if is_dataclass(part) else part for part in value]
    return value
