"""What runs the graphs of a bundle. Siblings: onnx.py and torchscript.py."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from steersman_service.bundle.bundle import Array, Bundle

Tensor = Any
"""A backend's own kind of tensor, on its own device."""


class Backend(Protocol):
    """Holds loaded graphs. Not thread-safe: one thread calls it."""

    name: str
    """As in the manifest's tolerances: "onnx" or "torch"."""
    device: str
    """ "cpu" or "cuda"."""

    def put(self, array: Array) -> Tensor:
        """The array on the device."""

    def get(self, tensor: Tensor) -> Array:
        """The tensor as an array."""

    def fetch(self, tensors: Sequence[Tensor]) -> list[Array]:
        """Several tensors as arrays: a device is waited for once."""

    def take(self, parts: Sequence[Tensor], rows: Array) -> Tensor:
        """Rows of `parts`, which are laid one after the other, in the order of `rows`; on the device."""

    def run(self, graph: str, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of `graph` by name, from its inputs by name."""


def load_backend(bundle: Bundle, name: str, device: str, threads: int) -> Backend:
    """Loads the graphs of `bundle`.

    `device` is "auto", "cpu" or "cuda"; `threads` of 0 leaves their number to the backend. Raises BundleError for a
    graph that does not load, StartupError for a device or a backend that is not there.
    """
    # Imported here: a server on ONNX Runtime starts where torch is not installed, and the other way round.
    if name == "torch":
        from steersman_service.engine.backends.torchscript import TorchBackend

        return TorchBackend(bundle, device, threads)
    from steersman_service.engine.backends.onnx import load_onnx_backend

    return load_onnx_backend(bundle, device, threads)
