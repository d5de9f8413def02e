"""MLServer with a model of its own kind: adaptive batching for up to 500 us, called by KServe's v2 protocol over gRPC."""

import json
import shutil
import urllib.request
from dataclasses import dataclass

from bench.peers import kserve
from bench.peers.client import Turn
from bench.peers.contestant import NotThere, Peer, Process
from bench.peers.served.ranker import Request, pack


@dataclass(frozen=True)
class MlServer(Peer):
    name: str = "mlserver"

    def start(self, port: int) -> Process:
        if not self.python.is_file():
            raise NotThere("mlserver is not installed")
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        model = {
            "name": "ranker", "implementation": "mlserver_model.Model", "max_batch_size": 64, "max_batch_time": 0.0005,
            "inputs": [{"name": "packed", "datatype": "BYTES", "shape": [-1, 1]}],
            "outputs": [{"name": "answer", "datatype": "BYTES", "shape": [-1, 1]}],
        }  # fmt: skip
        server = {
            "host": "127.0.0.1", "http_port": port + 1, "grpc_port": port, "metrics_port": port + 2,
            "parallel_workers": self.copies if self.copies > 1 else 0,
            "debug": False,
        }  # fmt: skip
        (self.work / "model-settings.json").write_text(json.dumps(model))
        (self.work / "settings.json").write_text(json.dumps(server))
        command = [str(self.python.with_name("mlserver")), "start", str(self.work)]
        return Process(self.name, command, self.work / "log", self.environment())

    def ready(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port + 1}/v2/models/ranker/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def turn(self, request: Request) -> Turn:
        return [kserve.infer(pack(request), "BYTES")]

    def read(self, answer: bytes) -> tuple[list[int], list[float]]:
        return kserve.read(answer, elements=True)
