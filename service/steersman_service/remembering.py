"""Results of a method, remembered."""

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast
from weakref import WeakMethod

P = ParamSpec("P")
R = TypeVar("R")


def remembered(most: int | None, method: Callable[P, R]) -> Callable[P, R]:
    """The `most` latest results (None: all) of a bound method.

    It does not keep its object, which may hold it: a release that is let go is freed at once, with no collection of garbage."""
    own = WeakMethod(method)

    def found(*arguments: P.args, **keywords: P.kwargs) -> R:
        known = own()
        assert known
        return known(*arguments, **keywords)

    return cast(Callable[P, R], lru_cache(most)(found))
