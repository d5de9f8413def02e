"""Columns: which column of a table plays which role, by the names given or by common names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

ROLES = {
    "user": ("--user-column", ("user_id", "user", "userId")),
    "item": ("--item-column", ("item_id", "item", "itemId", "movieId")),
    "item of the table": ("--item-column", ("item_id", "item", "itemId", "movieId", "id")),
    "timestamp": ("--time-column", ("timestamp", "time")),
    "position": ("--time-column", ("position",)),
    "rating": ("--rating-column", ("rating",)),
    "title": ("--title-column", ("title", "name")),
}
"""Role -> the flag that names its column, and common names, best first. Case, spaces, hyphens and underscores are ignored."""


class DataError(ValueError):
    """Data that cannot be used. The message names what is wrong and what would be right."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns, where they differ from the common ones in `ROLES`."""

    user: str | None = None
    item: str | tuple[str, ...] = ()  # of the interactions and of the item table: two names where the two differ
    timestamp: str | None = None
    """Clock time: a number, a date, or text in ISO 8601. Preferred to `position`, unless only that is named."""
    position: str | None = None  # place of an event in the history of its user
    rating: str | None = None
    title: str | None = None
    attributes: tuple[str, ...] = ()
    """Attribute columns of the item table, one name or several with commas each; by default all that are informative."""

    @property
    def item_names(self) -> tuple[str, ...]:
        return (self.item,) if isinstance(self.item, str) else self.item

    def find(self, role: str, names: Sequence[str], where: str) -> str | None:
        """The column of `names` that plays a role, or None. Raises DataError if a named column is missing."""
        flag, guesses = ROLES[role]
        of_item = role.startswith("item")  # whether its names exist anywhere is checked by `check_item`
        given = self.item_names if of_item else tuple(filter(None, [getattr(self, role)]))
        if given and not of_item:
            check_present(given, names, where, f"the {role}", f"one of these: {flag}")
        plain = {_plain(name): name for name in reversed(names)}
        return next(
            (name for name in (*given, *guesses) if name in names),
            next((plain[_plain(guess)] for guess in guesses if _plain(guess) in plain), None),
        )

    def need(self, role: str, names: Sequence[str], where: str) -> str:
        """As `find`, but raises DataError if there is no such column."""
        if found := self.find(role, names, where):
            return found
        flag, guesses = ROLES[role]
        headless = any(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in names)
        hint = " The first line of the file must name the columns." if headless else ""
        raise DataError(
            f"{where}: no column for the {role.partition(' ')[0]} ({', '.join(guesses)}); it has {listed(names)}. "
            f"Name the right one: {flag}.{hint}"
        )

    def check_item(self, names: Sequence[str], where: str) -> None:
        """Raises DataError if a named item column is in neither table; `names` are the columns of both."""
        check_present(self.item_names, names, where, "the item", "one of these: --item-column")

    def chosen_attributes(self, names: Sequence[str], where: str) -> list[str]:
        """The columns that `attributes` names. Raises DataError if one is missing."""
        split = ([given] if given in names else given.split(",") for given in self.attributes)
        chosen = [part if part in names else part.strip() for parts in split for part in parts]
        check_present(chosen, names, where, "an attribute", "some of these: --attribute-columns")
        return chosen


GUESSED = Columns()


def check_present(given: Sequence[str], names: Sequence[str], where: str, what: str, remedy: str) -> None:
    for name in given:
        if name not in names:
            raise DataError(f"{where}: no column {name!r} for {what}; it has {listed(names)}. Name {remedy}")


def listed(names: Sequence[str]) -> str:
    """Names of columns, as messages show them."""
    return ", ".join(name if name and name == name.strip() else repr(name) for name in names)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
