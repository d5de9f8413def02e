"""Runs a bundle's graphs in ONNX Runtime, on a CPU or with the CUDA provider."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

from steersman.v1.bundle_pb2 import Graph
from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.engine.backends.onnx_external import ExternalDataError, external_files
from steersman_service.engine.backends.protocol import Tensor
from steersman_service.errors import BundleError, StartupError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# By itself CUDA's provider multiplies with ten bits of mantissa, which golden rows do not forgive.
OPTIONS = {"cpu": {}, "cuda": {"use_tf32": "0"}}


class OnnxBackend:
    """On a CPU. Tensors are arrays: wrapping them would cost more than it gives."""

    name = "onnx"
    device = "cpu"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._graphs = bundle.graphs
        self._sessions = {name: self._session(bundle, graph, threads) for name, graph in self._graphs.items()}
        self._outputs = {name: [tensor.name for tensor in graph.outputs] for name, graph in self._graphs.items()}

    def put(self, array: Array) -> Tensor:
        return np.ascontiguousarray(array)

    def get(self, tensor: Tensor) -> Array:
        array: Array = tensor
        return array

    def fetch(self, tensors: Sequence[Tensor]) -> list[Array]:
        return [self.get(tensor) for tensor in tensors]

    def take(self, parts: Sequence[Tensor], rows: Array) -> Tensor:
        return np.concatenate(parts)[rows]

    def run(self, graph: str, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = self._outputs[graph]
        return dict(zip(outputs, self._sessions[graph].run(outputs, dict(feeds)), strict=True))

    def _session(self, bundle: Bundle, graph: Graph, threads: int) -> ort.InferenceSession:
        file = f"{graph.name}.onnx"
        session = open_session(bundle, file, self.device, threads)
        for kind, wanted, actual in (
            ("inputs", graph.inputs, session.get_inputs()),
            ("outputs", graph.outputs, session.get_outputs()),
        ):
            if missing := {tensor.name for tensor in wanted} ^ {tensor.name for tensor in actual}:
                raise BundleError(file, f"{kind} differ from the manifest's: {', '.join(sorted(missing))}")
        return session


class OnnxDeviceBackend(OnnxBackend):
    """On a GPU. Tensors are OrtValues, which stay on the device from one graph to the next."""

    def __init__(self, bundle: Bundle, threads: int, device: str = "cuda") -> None:
        self.device = device
        super().__init__(bundle, threads)

    def put(self, array: Array) -> Tensor:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.device)

    def get(self, tensor: Tensor) -> Array:
        array: Array = tensor.numpy()
        return array

    def take(self, parts: Sequence[Tensor], rows: Array) -> Tensor:
        # ONNX Runtime computes nothing outside a graph: by way of the host.
        return self.put(np.concatenate([self.get(part) for part in parts])[rows])

    def run(self, graph: str, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs, binding = self._outputs[graph], self._sessions[graph].io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, self.device)
        self._sessions[graph].run_with_iobinding(binding)
        return dict(zip(outputs, binding.get_outputs(), strict=True))


def load_onnx_backend(bundle: Bundle, device: str, threads: int) -> OnnxBackend:
    """`device` is "auto", "cpu" or "cuda". Raises StartupError if there is no such device."""
    return OnnxBackend(bundle, threads) if _device(device) == "cpu" else OnnxDeviceBackend(bundle, threads)


def open_session(bundle: Bundle, file: str, device: str, threads: int) -> ort.InferenceSession:
    """A graph in ONNX Runtime, on "cpu" or "cuda". Raises BundleError if it does not load.

    Graph and weights are given as bytes: only what was hashed is loaded.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads would take the core from everything else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime's own format has other ways to name files.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 3
    model = bundle.read(file)
    try:
        names = external_files(model, bundle.manifest.files)
    except ExternalDataError as error:
        raise BundleError(file, f"ONNX Runtime does not load it: {error}") from None
    weights = [bundle.read(name) for name in names]
    try:
        if names:
            options.add_external_initializers_from_files_in_memory(names, weights, list(map(len, weights)))
        return ort.InferenceSession(model, options, providers=[(PROVIDERS[device], OPTIONS[device])])
    except Exception as error:
        raise BundleError(file, f"ONNX Runtime does not load it: {error}") from error


def _device(wanted: str) -> str:
    available = PROVIDERS["cuda"] in ort.get_available_providers()
    if wanted == "cuda" and not available:
        raise StartupError("device cuda: this ONNX Runtime has no CUDA provider; install onnxruntime-gpu, or use cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"
