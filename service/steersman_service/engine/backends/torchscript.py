"""Runs a bundle's graphs in TorchScript, on a CPU or a GPU."""

import io
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from steersman.v1.bundle_pb2 import Graph
from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.errors import BundleError, StartupError

try:
    import torch
except ImportError:
    raise StartupError("backend torch: torch is not installed; install it, or use the onnx backend") from None

from steersman_service.engine.backends.replayed import Replayed, Tensors

# Larger arrays are those of a bundle, copied once: pinned memory stays pinned.
MOST_PINNED_BYTES = 64 << 20


class TorchBackend:
    """Tensors are torch's. A GPU is waited for in `get` and `fetch` alone."""

    name = "torch"

    def __init__(self, bundle: Bundle, device: str, threads: int) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise StartupError("device cuda: torch sees no GPU")
        self.device = "cuda" if torch.cuda.is_available() and device != "cpu" else "cpu"
        if threads:
            torch.set_num_threads(threads)
        self.replayed: dict[str, Replayed] = {}
        """Graphs that are run from recordings where their inputs fit one (recordings.py)."""
        self._graphs = bundle.graphs
        self._modules = {name: self._module(bundle, graph) for name, graph in self._graphs.items()}

    def put(self, array: Array) -> torch.Tensor:
        # A mapped file is read-only, which a tensor cannot be: such an array is copied.
        tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        if self.device == "cpu":
            return tensor
        # From pinned memory a copy waits for nothing that was asked for before it.
        pinned = tensor.pin_memory() if tensor.nbytes <= MOST_PINNED_BYTES else tensor
        return pinned.to(self.device, non_blocking=True)

    def get(self, tensor: torch.Tensor) -> Array:
        array: Array = tensor.cpu().numpy()
        return array

    def fetch(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        hosts = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        if self.device != "cpu":
            torch.cuda.current_stream().synchronize()
        return [host.numpy() for host in hosts]

    def take(self, parts: Sequence[torch.Tensor], rows: Array) -> torch.Tensor:
        with torch.inference_mode():
            joined = parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
            return joined[self.put(rows)]

    def run(self, graph: str, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        spec = self._graphs[graph]
        run = self.replayed.get(graph) or partial(self.run_directly, graph)
        with torch.inference_mode():
            outputs = run(*(feeds[tensor.name] for tensor in spec.inputs))
        return {tensor.name: output for tensor, output in zip(spec.outputs, outputs, strict=True)}

    def run_directly(self, graph: str, *inputs: torch.Tensor) -> Tensors:
        """Outputs of `graph`, from its inputs in order, from no recording. In inference mode."""
        # Not optimised: the executor would do so for every new shape, in the middle of a call.
        with cast(Any, torch.jit).optimized_execution(False):
            outputs = self._modules[graph](*inputs)
        return (outputs,) if isinstance(outputs, torch.Tensor) else outputs

    def _module(self, bundle: Bundle, graph: Graph) -> torch.jit.ScriptModule:
        file = f"{graph.name}.ts"
        content = io.BytesIO(bundle.read(file))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                load: Any = torch.jit.load
                module = cast(torch.jit.ScriptModule, load(content, map_location="cpu"))
        except Exception as error:
            raise BundleError(file, f"torch does not load it: {error}") from error
        if reads_a_file(module):
            raise BundleError(file, "has weights in another file; export it with its weights inside")
        move(module, self.device)
        return module


def reads_a_file(module: torch.jit.ScriptModule) -> bool:
    """Whether it may take a tensor from a file, which no manifest would name."""
    compiled = [cast(Any, part)._c for part in module.modules()]
    graphs = (part._get_method(name).inlined_graph for part in compiled for name in part._method_names())
    return any(graph.findAllNodes("aten::from_file") for graph in graphs)


def move(module: torch.jit.ScriptModule, device: str) -> None:
    """Has a traced graph run on `device`.

    `map_location` does not change devices that tracing wrote down (`torch.arange(..., device="cpu")`). It would move the numbers that
    sizes are computed with, and a size would wait for the GPU: they stay on the CPU.
    """
    for part in module.modules():
        compiled = cast(Any, part)._c
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            compiled.setattr(name, tensor.detach().to(device))
        for method in compiled._method_names():
            for node in compiled._get_method(method).graph.findAllNodes("prim::Constant"):
                kind = node.output().type().kind()
                if kind == "DeviceObjType":
                    node.s_("value", device)
                elif kind == "TensorType" and node.t("value").dim():
                    node.t_("value", node.t("value").to(device))
