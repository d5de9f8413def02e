"""Markdown: numbers, tables and pictures as text."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import mean
from typing import Any


def value_text(value: Any) -> str:
    """A number for people, or several; "-" where there is none."""
    if isinstance(value, list):
        return " / ".join(map(value_text, value)) or "-"
    if value is None or value != value:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if abs(value) >= 10 else f"{value:.3f}"


def table_text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Text as it is, numbers as `value_text` has them."""
    lines = [head, ["---"] * len(head)]
    lines += [[cell.replace("|", "\\|") if isinstance(cell, str) else value_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean_of(numbers: Iterable[float | None]) -> float | None:
    """Of those that are numbers."""
    found = [number for number in numbers if number is not None and number == number]
    return mean(found) if found else None


def picture_text(path: str | None, says: str) -> Iterator[str]:
    if path is not None:
        yield f"![{says}]({path})"
