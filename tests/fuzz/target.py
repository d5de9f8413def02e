"""What a target of fuzzing is."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

# Of one call.
SECONDS = 30.0


class Target(NamedTuple):
    """`run` takes any bytes, and raises for what must not happen."""

    seeds: Sequence[bytes]
    run: Callable[[bytes], None]
