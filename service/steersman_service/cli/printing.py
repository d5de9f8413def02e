"""Prints tables and lines. Text from data is printed as text: never as markup, and never as characters that control a terminal."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Width of the console where there is no terminal: nothing is wrapped or cut.
UNBOUNDED = 1 << 20
LEAST_FOLDED_WIDTH = 16
# Control characters, surrogates, separators of lines and of paragraphs.
UNPRINTABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))
# They change the direction of the text after them.
BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """`text` on one line, with escapes such as "\\x1b" for control characters and changes of direction."""
    return "".join(char.encode("unicode_escape").decode() if _is_control(char) else char for char in text)


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in UNPRINTABLE or char in BIDIRECTIONAL


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], foldable: Collection[str] = ()) -> None:
    """To standard output. On a terminal, columns whose title is `foldable` are folded to fit; others, such as ids, never are."""
    cells = [[printable(cell) for cell in row] for row in rows]
    console = _console()
    table = Table()
    least = 1
    for title, *column in zip(titles, *cells, strict=True):
        widest = max(map(cell_len, column), default=0)
        width = min(widest, LEAST_FOLDED_WIDTH) if title in foldable else widest
        table.add_column(Text(title), overflow="fold", min_width=width)
        least += max([width, *map(cell_len, title.split())]) + 3
    for row in cells:
        table.add_row(*map(Text, row))
    # A terminal too narrow for this wraps whole lines by itself.
    console.width = max(console.width, least) if console.is_terminal else UNBOUNDED
    console.print(table)


def print_json(text: str) -> None:
    """JSON, in which control characters and changes of direction are escaped."""
    typer.echo("".join(f"\\u{ord(char):04x}" if char != "\n" and _is_control(char) else char for char in text))


def say(text: str) -> None:
    """A line of the answer, on standard output."""
    _print(text)


def remark(text: str) -> None:
    """A line beside the answer, on standard error."""
    _print(text, stderr=True)


def warn(text: str) -> None:
    _print(text, "yellow", stderr=True)


def fail(text: str, code: int = 1) -> NoReturn:
    """Ends the command. `code` is 2 where the command line itself is wrong."""
    _print(text, "red", stderr=True)
    raise typer.Exit(code)


def _print(text: str, style: str = "", *, stderr: bool = False) -> None:
    _console(stderr).print(Text(printable(text), style), soft_wrap=True)


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
