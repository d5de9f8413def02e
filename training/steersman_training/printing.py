"""Tables and lines that commands print. Names are text, never markup; nothing is truncated, and without a terminal nothing is wrapped."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNBOUNDED = 1 << 20  # columns without a terminal: more than any table has
LEAST_FOLDED = 16  # what the foldable column may be folded to on a terminal


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], foldable: str = "") -> None:
    """Writes to standard output. Only the column `foldable` may take several lines."""
    console, table, least = _console(stderr=False), Table(), 1
    for index, name in enumerate(columns):
        width = max(map(cell_len, (name, *(row[index] for row in rows))))
        width = min(width, LEAST_FOLDED) if name == foldable else width
        table.add_column(Text(name), overflow="fold", min_width=width)
        least += width + 3
    for row in rows:
        table.add_row(*map(Text, row))
    # A terminal that is too narrow wraps whole lines by itself.
    console.width = max(console.width, least) if console.is_terminal else UNBOUNDED
    console.print(table)


def say(text: str, style: str = "") -> None:
    """Writes to standard error."""
    _console(stderr=True).print(Text(text, style), soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
