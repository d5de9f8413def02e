"""Batch latency model (non-negative least squares): how long a batch will take, learnt from the batches before it."""

from typing import NamedTuple

# Weight of the latest batch. Older ones fade: what else the machine does changes.
SMOOTHING = 0.2
# Passes over the terms after each batch, from the last solution on.
SWEEPS = 3
# Of a feature of a concept, before any was solved: a first burst of concepts must not become one batch.
CONCEPT_FEATURE_SECONDS = 1e-4


class Load(NamedTuple):
    """What requests ask of an engine."""

    requests: float
    positions: float
    """Events that have to be read."""
    concept_features: float = 0
    """Each is solved for its request."""
    item_vectors: float = 0
    """Numbers for each item of the catalogue: filters, tilts."""

    def plus(self, other: "Load") -> "Load":
        return Load(*(one + another for one, another in zip(self, other, strict=True)))

    def minus(self, other: "Load") -> "Load":
        return Load(*(one - another for one, another in zip(self, other, strict=True)))

    def times(self, share: float) -> "Load":
        return Load(*(share * one for one in self))


NOTHING = Load(0, 0)
TERMS = 1 + len(NOTHING)


class LatencyModel:
    """seconds = a + b * requests + c * positions + d * concept features + e * item vectors, fitted to the latest batches.

    No term is below 0. `a` is the cost of a call, and nearly everything on a GPU. Solved by coordinate descent (Franc et al.,
    "Sequential coordinate-wise algorithm for the non-negative least squares problem", CAIP 2005), from the last solution on.
    """

    def __init__(self) -> None:
        self._terms = [0.0, 0.0, 0.0, CONCEPT_FEATURE_SECONDS, 0.0]
        self._products = [[0.0] * TERMS for _ in range(TERMS)]
        self._targets = [0.0] * TERMS

    def seconds(self, load: Load) -> float:
        """Of one batch."""
        a, b, c, d, e = self._terms
        return a + b * load.requests + c * load.positions + d * load.concept_features + e * load.item_vectors

    @property
    def call_seconds(self) -> float:
        """Of a batch, whatever is in it."""
        return self._terms[0]

    def learn(self, load: Load, seconds: float) -> None:
        """A batch has taken this long."""
        seen = (1.0, *load)
        for row in range(TERMS):
            self._targets[row] += SMOOTHING * (seen[row] * seconds - self._targets[row])
            products = self._products[row]
            for column in range(TERMS):
                products[column] += SMOOTHING * (seen[row] * seen[column] - products[column])
        for _ in range(SWEEPS):
            self._sweep()

    def _sweep(self) -> None:
        for row, (products, target) in enumerate(zip(self._products, self._targets, strict=True)):
            if products[row]:
                fitted = sum(product * term for product, term in zip(products, self._terms, strict=True))
                self._terms[row] = max(0.0, self._terms[row] + (target - fitted) / products[row])


class QueueModel:
    """How long a queue takes, whose batches hold up to `max_batch` requests and are expected to take up to `batch_seconds`."""

    def __init__(self, max_batch: int, batch_seconds: float) -> None:
        self.latency = LatencyModel()
        self._max_batch = max_batch
        self._batch_seconds = batch_seconds

    def overfull(self, load: Load) -> bool:
        """Whether a batch would be too large, variants of its requests included, or take too long."""
        return load.requests > self._max_batch or self._marginal_seconds(load) > self._room_seconds

    def wait_seconds(self, before: Load) -> float:
        """Until the batch of a request starts that comes after `before`."""
        batches = self._batches(before)
        whole = int(batches)  # the rest shares the request's own batch
        share = whole / batches if batches else 0.0
        return whole * self.latency.call_seconds + share * self._marginal_seconds(before)

    def drain_seconds(self, waiting: Load) -> float:
        """Until all of `waiting`, and a request more, is computed."""
        return (1 + self._batches(waiting)) * self.latency.call_seconds + self._marginal_seconds(waiting)

    def _batches(self, load: Load) -> float:
        """Batches that `load` fills, by number or by time."""
        return max(load.requests / self._max_batch, self._marginal_seconds(load) / self._room_seconds)

    @property
    def _room_seconds(self) -> float:
        """Time for the requests of a batch, beside the call itself; at least as much as the call takes."""
        call = self.latency.call_seconds
        return max(self._batch_seconds - call, call)

    def _marginal_seconds(self, load: Load) -> float:
        return self.latency.seconds(load) - self.latency.call_seconds
