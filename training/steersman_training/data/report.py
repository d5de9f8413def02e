"""The report of a load: what was read, what was left out, and why."""

from collections.abc import Iterator
from dataclasses import dataclass

from steersman_training.data.columns import listed


@dataclass(frozen=True)
class DataReport:
    """Counts of what was read and left out. Rows are those of the interactions, unless named otherwise."""

    name: str  # of the data
    rows: int  # rows read
    malformed_rows: int  # without a user, an item, or a readable time
    low_ratings: int  # rated below `min_rating`
    duplicate_events: int  # repetitions of user, item and time
    rare_events: int  # events of users or items that have too few
    rare_users: int
    rare_items: int
    items_without_events: int  # rows of the item table without events
    items_without_row: int  # items that have events but no row in the item table: kept, titled by their id
    malformed_item_rows: int  # rows of the item table without an id, or with that of an earlier row
    users: int
    items: int
    events: int  # users, items and events that are left
    matched_events: float | None  # share of the events whose item is in the item table; None without one
    span: str  # first and last time, and what they were read as
    malformed: tuple[str, ...]  # what is wrong with malformed rows, and how often
    columns: tuple[str, ...]  # what the columns of the interactions were read as
    not_read: tuple[str, ...]  # columns of the interactions that were not read
    item_columns: tuple[str, ...]  # what the columns of the item table were read as
    item_columns_left_out: dict[str, str]  # columns of the item table that are no attribute, and why
    warnings: tuple[str, ...] = ()  # what is suspicious: the column, the share, and the remedy

    @property
    def ignored_columns(self) -> tuple[str, ...]:
        """Columns that were not read, of both tables."""
        return (*self.not_read, *self.item_columns_left_out)

    def lines(self) -> Iterator[str]:
        """The table as lines of text, without the warnings."""
        yield f"data: {self.name}"
        for name, value in self._cells():
            yield report_line(name, value)

    def _cells(self) -> Iterator[tuple[str, str]]:
        yield "rows read", f"{self.rows:,}"
        yield "events kept", f"{self.events:,}"
        left_out = (
            (self.low_ratings, "rated too low"),
            (self.duplicate_events, "the same user, item and time again"),
            (self.rare_events, f"events of {self.rare_users:,} users and {self.rare_items:,} items with too few"),
        )
        yield "left out", "; ".join([*self.malformed, *(f"{why}: {n:,}" for n, why in left_out if n)]) or "none"
        yield "users", f"{self.users:,}"
        yield "items", f"{self.items:,}"
        yield "time", self.span
        yield "columns", "; ".join(self.columns + (f"not read: {', '.join(self.not_read)}",) * bool(self.not_read))
        if self.matched_events is None:
            yield "item table", "none: items have no titles and no attributes (--items FILE)"
            return
        in_table = f"{self.items - self.items_without_row:,} of {self.items:,} items"
        yield "in item table", f"{percent(self.matched_events)} of the events; {in_table}"
        malformed = f"without an id, or with an earlier one: {self.malformed_item_rows:,}"
        yield "item rows", f"without events: {self.items_without_events:,}; {malformed}"
        yield "item columns", "; ".join(self.item_columns)
        if self.item_columns_left_out:
            yield (
                "no attribute",
                ", ".join(f"{listed([name])} ({why})" for name, why in self.item_columns_left_out.items()),
            )


def report_line(name: str, value: str) -> str:
    return f"  {name:<14}{value}"


def percent(share: float) -> str:
    """Rounded, but never to 100% or 0% unless exact."""
    return f"{min(max(share, 0.001), 0.999):.1%}" if 0 < share < 1 else f"{share:.0%}"
