"""The pace of an engine: what a batch will take, learnt from those before it."""

from typing import NamedTuple

# Weight of the latest batch. Old ones fade: what else the machine does changes.
SMOOTHING = 0.2
# Each goes over the four terms once, on from where the last batch left them.
SWEEPS = 3
# What a concept is expected to take before any was solved: a first burst of them is not one batch.
CONCEPT_SECONDS = 0.001


class Load(NamedTuple):
    """What is asked of an engine."""

    requests: float
    positions: float
    """Events of their histories: what `lower` computes."""
    concepts: float = 0
    """Named by them: each is solved for its request."""

    def plus(self, other: "Load") -> "Load":
        return Load(*(one + another for one, another in zip(self, other, strict=True)))

    def minus(self, other: "Load") -> "Load":
        return Load(*(one - another for one, another in zip(self, other, strict=True)))

    def times(self, share: float) -> "Load":
        return Load(*(share * one for one in self))


NOTHING = Load(0, 0)


class Pace:
    """seconds = a + b * requests + c * positions + d * concepts, with a to d the least squares of the latest batches, and none below 0.

    `a` is what a call costs, and nearly everything on a GPU; `b` is the search in the catalogue; `c` is `lower`, less the histories whose
    states were kept; `d` is the solution of a concept. Solved by coordinate descent (Franc et al., "Sequential coordinate-wise algorithm
    for the non-negative least squares problem", CAIP 2005), which goes on from the last solution.
    """

    def __init__(self) -> None:
        self._terms = [0.0, 0.0, 0.0, CONCEPT_SECONDS]
        self._products = [[0.0] * 4 for _ in range(4)]
        self._targets = [0.0, 0.0, 0.0, 0.0]

    def seconds(self, load: Load) -> float:
        """Of one batch."""
        a, b, c, d = self._terms
        return a + b * load.requests + c * load.positions + d * load.concepts

    @property
    def batch_seconds(self) -> float:
        """Of a batch, whatever is in it."""
        return self._terms[0]

    def learn(self, load: Load, seconds: float) -> None:
        """A batch has taken this long."""
        seen = (1.0, *load)
        for row in range(4):
            self._targets[row] += SMOOTHING * (seen[row] * seconds - self._targets[row])
            products = self._products[row]
            for column in range(4):
                products[column] += SMOOTHING * (seen[row] * seen[column] - products[column])
        for _ in range(SWEEPS):
            self._sweep()

    def _sweep(self) -> None:
        for row, (products, target) in enumerate(zip(self._products, self._targets, strict=True)):
            if products[row]:
                fitted = sum(product * term for product, term in zip(products, self._terms, strict=True))
                self._terms[row] = max(0.0, self._terms[row] + (target - fitted) / products[row])
