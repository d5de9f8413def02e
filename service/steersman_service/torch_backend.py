"""Runs a bundle's graphs in TorchScript, on a CPU or a GPU. The only file of the service that imports torch."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from steersman.v1.bundle_pb2 import Graph
from steersman_service.bundle import Array, Bundle
from steersman_service.errors import BundleError, StartupError

try:
    import torch
except ImportError:
    raise StartupError("backend torch: torch is not installed; install it, or use the onnx backend") from None


class TorchBackend:
    """Tensors are torch's."""

    name = "torch"

    def __init__(self, bundle: Bundle, device: str, threads: int) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise StartupError("device cuda: torch sees no GPU")
        self.device = "cuda" if torch.cuda.is_available() and device != "cpu" else "cpu"
        if threads:
            torch.set_num_threads(threads)
        self._graphs = bundle.graphs
        self._modules = {name: self._module(bundle, graph) for name, graph in self._graphs.items()}

    def put(self, array: Array) -> torch.Tensor:
        # A mapped file is read-only, which a tensor cannot be: such an array is copied.
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)

    def get(self, tensor: torch.Tensor) -> Array:
        array: Array = tensor.cpu().numpy()
        return array

    def take(self, parts: Sequence[torch.Tensor], rows: Array) -> torch.Tensor:
        with torch.inference_mode():
            joined = parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
            return joined[self.put(rows)]

    def run(self, graph: str, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        spec = self._graphs[graph]
        with torch.inference_mode():
            outputs = self._modules[graph](*(feeds[tensor.name] for tensor in spec.inputs))
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        return {tensor.name: output for tensor, output in zip(spec.outputs, outputs, strict=True)}

    def _module(self, bundle: Bundle, graph: Graph) -> torch.jit.ScriptModule:
        file = f"{graph.name}.ts"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                load: Any = torch.jit.load
                return cast(torch.jit.ScriptModule, load(bundle.folder / file, map_location=self.device))
        except Exception as error:
            raise BundleError(file, f"torch does not load it: {error}") from error
