"""Triton, as the `nvidia-pytriton` wheel carries it: its server's program and Python backend, without the C++ backend for ONNX.

So a model in Python calls ONNX Runtime. Dynamic batching gathers requests for up to 500 us; requests of different lengths may share a batch
(`allow_ragged_batch`), which the model pads to its longest. It is called by KServe's v2 protocol over gRPC.
"""

import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from bench.peers import kserve
from bench.peers.client import Turn
from bench.peers.contestant import SERVED, NotThere, Peer, Process
from bench.peers.served.ranker import Request, pack

CONFIG = """
name: "ranker"
backend: "python"
max_batch_size: 64
input [{ name: "packed" data_type: TYPE_UINT8 dims: [ -1 ] allow_ragged_batch: true }]
output [{ name: "answer" data_type: TYPE_UINT8 dims: [ -1 ] }]
dynamic_batching { max_queue_delay_microseconds: 500 }
instance_group [{ kind: KIND_CPU count: COPIES }]
"""


@dataclass(frozen=True)
class Triton(Peer):
    name: str = "triton"
    alone: bool = False
    """Whether the model computes the requests of a batch one by one, without padding, rather than in one call."""

    def start(self, port: int) -> Process:
        server = self._server()
        models = self.work / "models"
        shutil.rmtree(self.work, ignore_errors=True)
        (models / "ranker" / "1").mkdir(parents=True)
        (models / "ranker" / "config.pbtxt").write_text(CONFIG.replace("COPIES", str(self.copies)))
        shutil.copy(SERVED / "triton_model.py", models / "ranker" / "1" / "model.py")
        # The backend looks for the stub of its Python beside itself, where the wheel does not put it.
        shutil.copytree(server / "backends", self.work / "backends")
        shutil.copy(self._stub(server), self.work / "backends" / "python" / "triton_python_backend_stub")
        command = [
            str(server / "bin" / "tritonserver"), f"--model-repository={models}", f"--backend-directory={self.work / 'backends'}",
            "--disable-auto-complete-config", "--allow-metrics=false", "--allow-http=true", f"--grpc-port={port}",
            f"--http-port={port + 1}", "--grpc-address=127.0.0.1", "--http-address=127.0.0.1",
        ]  # fmt: skip
        site = server.parents[1]
        environment = self.environment() | {"BENCH_ALONE": str(int(self.alone))}
        environment["PYTHONPATH"] += f":{site}"
        environment["LD_LIBRARY_PATH"] = str(
            site / "nvidia_pytriton.libs"
        )  # the stub looked for them beside where it was
        return Process(self.name, command, self.work / "log", environment)

    def ready(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port + 1}/v2/health/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def turn(self, request: Request) -> Turn:
        return [kserve.infer(pack(request), "UINT8")]

    def read(self, answer: bytes) -> tuple[list[int], list[float]]:
        return kserve.read(answer)

    def _server(self) -> Path:
        found = sorted(self.python.parents[1].glob("lib/python3*/site-packages/pytriton/tritonserver"))
        if not found:
            raise NotThere("nvidia-pytriton is not installed")
        return found[0]

    def _stub(self, server: Path) -> Path:
        version = subprocess.check_output(
            [self.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True
        ).strip()
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        if not stub.is_file():
            raise NotThere(f"nvidia-pytriton has no stub for Python {version}")
        return stub
