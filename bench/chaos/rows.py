"""The rows of the report. Each starts its parts, hurts them under load, and says when the fault was over."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bench.chaos.stage import Stage


class Row(NamedTuple):
    """One fault."""

    name: str
    parts: str
    """What runs."""
    fault: str
    run: Callable[[Stage], Awaitable[None]]
    no_errors: bool
    """Whether clients must see no error at all."""
    may_lose: str
    """What a failover may lose, in words. Empty: nothing acknowledged may be lost."""


ROWS: dict[str, Row] = {}


def row(
    name: str, *, parts: str, fault: str, no_errors: bool = False, may_lose: str = ""
) -> Callable[[Callable[[Stage], Awaitable[None]]], Callable[[Stage], Awaitable[None]]]:
    """Makes a function a row."""

    def registered(run: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Awaitable[None]]:
        ROWS[name] = Row(name, parts, fault, run, no_errors, may_lose)
        return run

    return registered
