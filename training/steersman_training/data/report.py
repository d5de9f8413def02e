"""What was read of some data, what was left out and why: the table that every load ends with."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class DataReport:
    """What was read, and what was left out and why. Rows are those of the interactions, unless named otherwise."""

    rows: int
    """Rows read."""
    malformed_rows: int
    """Without a user, an item, or an order that can be understood."""
    low_ratings: int
    """Rated below `min_rating`."""
    duplicate_events: int
    """The same user, item and time once more."""
    rare_events: int
    """Events of users or items that have too few."""
    rare_users: int
    """Users with fewer than `min_user_events`."""
    rare_items: int
    """Items with fewer than `min_item_events`."""
    items_without_events: int
    """Rows of the item table that no event is left for."""
    items_without_row: int
    """Items that have events but no row in the item table: kept, titled by their id."""
    malformed_item_rows: int
    """Rows of the item table without an id, or with that of an earlier row."""
    ignored_columns: tuple[str, ...]
    """Columns that were not read: of the interactions, or of the item table where they are no attribute."""
    name: str = ""
    """What the data is called."""
    users: int = 0
    items: int = 0
    events: int = 0
    """What is left."""
    matched_events: float | None = None
    """Share of the events whose item is in the item table; None without one."""
    span: str = ""
    """First and last time, as dates where they are such, and what they were read as."""
    malformed: tuple[str, ...] = ()
    """What is wrong with malformed rows, and how often."""
    columns: tuple[str, ...] = ()
    """What the columns of the interactions were taken for."""
    not_read: tuple[str, ...] = ()
    """Columns of the interactions that were not."""
    item_columns: tuple[str, ...] = ()
    """What those of the item table were taken for."""
    item_columns_left_out: tuple[str, ...] = ()
    """Columns of the item table that are no attribute, with the reasons."""
    warnings: tuple[str, ...] = ()
    """What is suspicious: the column, the share, and the remedy."""

    def lines(self) -> Iterator[str]:
        """The table, as lines of text; without the warnings."""
        yield f"data: {self.name}"
        for name, value in self._cells():
            yield f"  {name:<14}{value}"

    def _cells(self) -> Iterator[tuple[str, str]]:
        yield "rows read", f"{self.rows:,}"
        yield "events kept", f"{self.events:,}"
        yield "left out", "; ".join(self._left_out()) or "none"
        yield "users", f"{self.users:,}"
        yield "items", f"{self.items:,}"
        yield "time", self.span
        yield "columns", "; ".join(self.columns + (f"not read: {', '.join(self.not_read)}",) * bool(self.not_read))
        if self.matched_events is None:
            yield "item table", "none: items have no titles and no attributes (--items FILE)"
            return
        yield (
            "in item table",
            f"{percent(self.matched_events)} of the events; {self.items - self.items_without_row:,} of {self.items:,} items",
        )
        yield (
            "item rows",
            f"without events: {self.items_without_events:,}; without an id, or with an earlier one: {self.malformed_item_rows:,}",
        )
        yield "item columns", "; ".join(self.item_columns)
        if self.item_columns_left_out:
            yield "no attribute", ", ".join(self.item_columns_left_out)

    def _left_out(self) -> Iterator[str]:
        yield from self.malformed
        for count, why in (
            (self.low_ratings, "rated too low"),
            (self.duplicate_events, "the same user, item and time again"),
            (self.rare_events, f"events of {self.rare_users:,} users and {self.rare_items:,} items with too few"),
        ):
            if count:
                yield f"{why}: {count:,}"


def percent(share: float) -> str:
    """Never 100% where something is missing, nor 0% where something is there."""
    return f"{min(max(share, 0.001), 0.999):.1%}" if 0 < share < 1 else f"{share:.0%}"
