"""Runs a bundle's graphs in ONNX Runtime, on a CPU or with the CUDA provider."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from steersman.v1.bundle_pb2 import Graph
from steersman_service.bundle import Array, Bundle
from steersman_service.errors import BundleError, StartupError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxBackend:
    """Tensors are OrtValues: what one graph answers stays on the device until the next one takes it."""

    name = "onnx"

    def __init__(self, bundle: Bundle, device: str, threads: int) -> None:
        self.device = _device(device)
        self._graphs = bundle.graphs
        self._sessions = {name: self._session(bundle, graph, threads) for name, graph in self._graphs.items()}

    def put(self, array: Array) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.device)

    def get(self, tensor: ort.OrtValue) -> Array:
        array: Array = tensor.numpy()
        return array

    def take(self, parts: Sequence[ort.OrtValue], rows: Array) -> ort.OrtValue:
        # ONNX Runtime computes nothing outside a graph: by way of the host, which is where a CPU's tensors are anyway.
        return self.put(np.concatenate([self.get(part) for part in parts])[rows])

    def run(self, graph: str, feeds: Mapping[str, ort.OrtValue]) -> dict[str, ort.OrtValue]:
        session, outputs = self._sessions[graph], [tensor.name for tensor in self._graphs[graph].outputs]
        binding = session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, self.device)
        session.run_with_iobinding(binding)
        return dict(zip(outputs, binding.get_outputs(), strict=True))

    def _session(self, bundle: Bundle, graph: Graph, threads: int) -> ort.InferenceSession:
        file = f"{graph.name}.onnx"
        session = open_session(bundle.folder / file, self.device, threads)
        for kind, wanted, actual in (
            ("inputs", graph.inputs, session.get_inputs()),
            ("outputs", graph.outputs, session.get_outputs()),
        ):
            if missing := {tensor.name for tensor in wanted} ^ {tensor.name for tensor in actual}:
                raise BundleError(file, f"{kind} differ from the manifest's: {', '.join(sorted(missing))}")
        return session


def open_session(path: Path, device: str, threads: int) -> ort.InferenceSession:
    """A graph in ONNX Runtime, on "cpu" or "cuda". Raises BundleError if it does not load."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads answer a busy loop of calls sooner and take the core from everything else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(path, options, providers=[PROVIDERS[device]])
    except Exception as error:
        raise BundleError(path.name, f"ONNX Runtime does not load it: {error}") from error


def _device(wanted: str) -> str:
    available = PROVIDERS["cuda"] in ort.get_available_providers()
    if wanted == "cuda" and not available:
        raise StartupError("device cuda: this ONNX Runtime has no CUDA provider; install onnxruntime-gpu, or use cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"
