"""What commands print: tables and lines in which whatever comes from data is text, and nothing else.

A name is never read as markup or as the code of a picture, and can neither steer a terminal nor turn a line around. Keys, such as ids, are
never cut. Without a terminal nothing is cut or wrapped.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Columns without a terminal: more than any table has.
UNBOUNDED = 1 << 20
# What a column may be folded to on a terminal.
LEAST_FOLDED = 16
# Control characters, such as escapes and line breaks; surrogates; separators of lines and paragraphs.
UNPRINTABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))
# They turn the direction of what comes after them.
BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Column(NamedTuple):
    """Of a table."""

    title: str
    key: bool = False
    """What is in it is typed again, or is a figure: it is never folded."""


def printable(text: str) -> str:
    """`text` on one line, with characters that would steer a terminal or the direction of writing as escapes, as in "\\x1b"."""
    return "".join(_escaped(char) if _steers(char) else char for char in text)


def _steers(char: str) -> bool:
    return unicodedata.category(char) in UNPRINTABLE or char in BIDIRECTIONAL


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Writes to standard output."""
    cells = [[printable(cell) for cell in row] for row in rows]
    console = _console(stderr=False)
    table = Table()
    least = 1
    for index, column in enumerate(columns):
        widest = max((cell_len(row[index]) for row in cells), default=0)
        width = widest if column.key else min(widest, LEAST_FOLDED)
        table.add_column(Text(column.title), overflow="fold", min_width=width)
        least += max(width, max(map(cell_len, column.title.split()), default=0)) + 3
    for row in cells:
        table.add_row(*map(Text, row))
    # A terminal that is too narrow for the keys wraps whole lines by itself.
    console.width = max(console.width, least) if console.is_terminal else UNBOUNDED
    console.print(table)


def print_json(text: str) -> None:
    """JSON as it is, but for characters that JSON lets pass and `printable` does not: they become its own escapes."""
    typer.echo("".join(f"\\u{ord(char):04x}" if char != "\n" and _steers(char) else char for char in text))


def say(text: str) -> None:
    """A line of an answer, on standard output."""
    _print(text, stderr=False)


def remark(text: str) -> None:
    """A line that is not part of the answer, on standard error: pipes stay clean."""
    _print(text, stderr=True)


def warn(text: str) -> None:
    _print(text, stderr=True, style="yellow")


def fail(text: str, code: int = 1) -> NoReturn:
    """Says what is wrong and ends the command; `code` is 2 where the command line itself is wrong."""
    _print(text, stderr=True, style="red")
    raise typer.Exit(code)


def _print(text: str, *, stderr: bool, style: str = "") -> None:
    _console(stderr=stderr).print(Text(printable(text), style), soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
