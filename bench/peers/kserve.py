"""KServe's v2 inference protocol, as Triton and MLServer speak it: one tensor of bytes each way."""

import struct
from typing import Any

import grpc
import numpy as np

from bench.peers.client import Message

METHOD = "/inference.GRPCInferenceService/ModelInfer"
PREFIX_BYTES = 4
"""Before each element of a BYTES tensor."""
_messages: Any = grpc.protos("bench/peers/kserve.proto")


def infer(packed: bytes, datatype: str) -> Message:
    """A request for the model `ranker`; of UINT8 a tensor is the bytes, of BYTES it is one element."""
    elements = datatype == "BYTES"
    shape = [1, 1] if elements else [1, len(packed)]
    request = _messages.ModelInferRequest(
        model_name="ranker",
        inputs=[{"name": "packed", "datatype": datatype, "shape": shape}],
        raw_input_contents=[struct.pack("<I", len(packed)) + packed if elements else packed],
    )
    return Message(METHOD, request.SerializeToString())


def read(answer: bytes, elements: bool = False) -> tuple[list[int], list[float]]:
    """Rows and scores."""
    (content,) = _messages.ModelInferResponse.FromString(answer).raw_output_contents
    return read_packed(content[PREFIX_BYTES:] if elements else content)


def read_packed(answer: bytes) -> tuple[list[int], list[float]]:
    """Rows and scores, as served/ranker.py packs them."""
    half = len(answer) // 2
    return np.frombuffer(answer[:half], np.int32).tolist(), np.frombuffer(answer[half:], np.float32).tolist()
