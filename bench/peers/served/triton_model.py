"""The model that Triton's Python backend runs: one call of ONNX Runtime for the requests that its dynamic batching gathered."""

import os
import sys
from typing import Any

# The backend's interpreter does not heed PYTHONPATH.
sys.path[:0] = os.environ["PYTHONPATH"].split(":")

import numpy as np  # noqa: E402
import triton_python_backend_utils as triton  # noqa: E402
from ranker import Ranker  # noqa: E402


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._ranker = Ranker.from_environment()

    def execute(self, requests: list[Any]) -> list[Any]:
        packed = [triton.get_input_tensor_by_name(request, "packed").as_numpy().tobytes() for request in requests]
        return [
            triton.InferenceResponse([triton.Tensor("answer", np.frombuffer(answer, np.uint8)[None])])
            for answer in self._ranker.answers(packed)
        ]
