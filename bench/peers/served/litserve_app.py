"""LitServe, which speaks HTTP and JSON: workers that batch for up to 500 us.

python litserve_app.py PORT WORKERS
"""

import sys
from typing import Any

import litserve
import numpy as np
from ranker import Ranker, Request


class Served(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._ranker = Ranker.from_environment()

    def decode_request(self, request: dict[str, Any]) -> Request:
        edits_3E = np.array(request["edits"], np.float32).reshape(3, -1)
        return Request(np.array(request["history"], np.int32), edits_3E)

    def batch(self, inputs: list[Request]) -> list[Request]:
        return inputs

    def predict(self, inputs: list[Request]) -> list[Any]:
        return list(zip(*self._ranker.rank(inputs), strict=True))

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        rows_K, scores_K = output
        return {"rows": rows_K.tolist(), "scores": scores_K.tolist()}


if __name__ == "__main__":
    api = Served(max_batch_size=64, batch_timeout=0.0005)
    port, workers = map(int, sys.argv[1:])
    litserve.LitServer(api, accelerator="cpu", workers_per_device=workers).run(
        host="127.0.0.1", port=port, generate_client_file=False, log_level="warning"
    )
