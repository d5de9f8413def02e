"""Prints lines and tables. Text from the server is printed as text: never as markup, and never as control characters."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Columns of the console: rows are never wrapped or cut, a narrow terminal wraps them itself.
UNBOUNDED = 1 << 20


def printable(text: str) -> str:
    """`text` with escapes, such as "\\x1b", for characters that do not print."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_line(text: str, style: str = "", *, stderr: bool = False) -> None:
    _console(stderr).print(Text(printable(text), style))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """To standard output."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    _console().print(table)


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr, width=UNBOUNDED, markup=False, emoji=False, highlight=False)
