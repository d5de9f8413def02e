"""Columns: which of a table's is what, by the names that are given, or by common ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Names that are understood without being told, best first; upper case, spaces and underscores make no difference.
GUESSES = {
    "user": ("user_id", "user", "userId"),
    "item": ("item_id", "item", "itemId", "movieId"),
    "timestamp": ("timestamp", "time"),
    "position": ("position",),
    "rating": ("rating",),
    "title": ("title", "name"),
    "item of the table": ("item_id", "item", "itemId", "movieId", "id"),
}
FLAGS = {
    "user": "--user-column",
    "item": "--item-column",
    "item of the table": "--item-column",
    "timestamp": "--time-column",
    "position": "--time-column",
    "rating": "--rating-column",
    "title": "--title-column",
}


class DataError(ValueError):
    """Data that cannot be used. The message names what is wrong and what would be right."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns, where they differ from the common ones in `GUESSES`."""

    user: str | None = None
    item: str | tuple[str, ...] = ()
    """Of the interactions and of the item table: two names where the two differ."""
    timestamp: str | None = None
    """Clock time: a number, a date, or text in ISO 8601. Goes before `position`, unless only that is named."""
    position: str | None = None
    """Place of an event in the history of its user."""
    rating: str | None = None
    title: str | None = None
    attributes: tuple[str, ...] = ()
    """Columns of the item table that are attributes, a name or names with commas between them each; by default all that say something."""

    def find(self, role: str, names: Sequence[str], where: str) -> str | None:
        """The column of `names` that plays a role, or None. Raises DataError if one was named that is not there."""
        given: str | None = None if role.startswith("item") else getattr(self, role)
        if given is None:
            named = (name for name in self._item_names() if name in names) if role.startswith("item") else iter(())
            return next(named, None) or _guess(role, names)
        if given not in names:
            raise DataError(
                f"{where}: no column {given!r} for the {role}; it has {listed(names)}. Name one of these: {FLAGS[role]}"
            )
        return given

    def need(self, role: str, names: Sequence[str], where: str) -> str:
        """As `find`, but raises DataError if there is no such column."""
        if found := self.find(role, names, where):
            return found
        tried = ", ".join(GUESSES[role])
        headless = any(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in names)
        hint = " The first line of the file must name the columns." if headless else ""
        raise DataError(
            f"{where}: no column for the {role.partition(' ')[0]} ({tried}); it has {listed(names)}. "
            f"Name the right one: {FLAGS[role]}.{hint}"
        )

    def check_item(self, names: Sequence[str], where: str) -> None:
        """Raises DataError if an item column was named that is none of `names`, those of interactions and item table."""
        for given in self._item_names():
            if given not in names:
                raise DataError(
                    f"{where}: no column {given!r} for the item; it has {listed(names)}. Name one of these: --item-column"
                )

    def chosen_attributes(self, names: Sequence[str], where: str) -> list[str]:
        """The columns that `attributes` names. Raises DataError if one is not there."""
        chosen: list[str] = []
        for given in self.attributes:
            parts = [given] if given in names else [part.strip() for part in given.split(",")]
            if missing := [part for part in parts if part not in names]:
                raise DataError(
                    f"{where}: no column {missing[0]!r} for an attribute; it has {listed(names)}. Name some of these: --attribute-columns"
                )
            chosen += parts
        return chosen

    def _item_names(self) -> tuple[str, ...]:
        return (self.item,) if isinstance(self.item, str) else self.item


GUESSED = Columns()


def listed(names: Sequence[str]) -> str:
    """Names of columns, as messages show them."""
    return ", ".join(name if name and name == name.strip() else repr(name) for name in names)


def _guess(role: str, names: Sequence[str]) -> str | None:
    plain = {_plain(name): name for name in reversed(names)}
    guesses = GUESSES[role]
    return next((guess for guess in guesses if guess in names), None) or next(
        (plain[_plain(guess)] for guess in guesses if _plain(guess) in plain), None
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
