"""A bundle's graphs on a backend: each is fed what it asks for by name (proto/README.md, "Graphs")."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.engine.backends.protocol import Backend, Tensor

Pool = dict[str, Tensor]
"""Tensors by name, on the backend's device."""


class Graphs:
    """Not thread-safe: one thread runs them."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend
        self.tables: Pool = {
            "items_ND": backend.put(bundle.items_ND),
            "biases_N": backend.put(bundle.biases_N),
        }
        """The item table is fed, not baked in: the graphs share one copy."""
        self.inputs = {name: [tensor.name for tensor in graph.inputs] for name, graph in bundle.graphs.items()}

    def run(self, graph: str, pool: Mapping[str, Tensor]) -> Pool:
        """Outputs of `graph` by name. The item table is added to `pool`."""
        feeds = {name: self.tables[name] if name in self.tables else pool[name] for name in self.inputs[graph]}
        return self.backend.run(graph, feeds)

    def put(self, arrays: Mapping[str, Array]) -> Pool:
        return {name: self.backend.put(array) for name, array in arrays.items()}

    def replay(self, graph: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The same as `run`, from arrays to arrays."""
        return {name: self.backend.get(tensor) for name, tensor in self.run(graph, self.put(arrays)).items()}

    def select(self, pool: Mapping[str, Tensor], graphs: Iterable[str], rows: Sequence[int], size: int) -> Pool:
        """What `graphs` ask of the pool of `size` requests, for those requests alone that `rows` names."""
        wanted = {name: pool[name] for graph in graphs for name in self.inputs[graph] if name in pool}
        if list(rows) == list(range(size)):
            return wanted
        return {
            name: self.backend.take([tensor], np.array(rows)) if per_request(name) else tensor
            for name, tensor in wanted.items()
        }


def per_request(name: str) -> bool:
    """Whether a tensor has a row for each request of a batch."""
    return name.rpartition("_")[2].startswith("B")
