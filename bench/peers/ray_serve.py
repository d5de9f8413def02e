"""Ray Serve's gRPC ingress: a proxy process before one replica, which batches for up to 500 us. Bytes in, bytes out."""

import secrets
from dataclasses import dataclass

from bench.peers.client import Message, Turn
from bench.peers.contestant import SERVED, NotThere, Peer, Process
from bench.peers.kserve import read_packed
from bench.peers.served.ranker import Request, pack

METHOD = "/bench.Ranker/Rank"


@dataclass(frozen=True)
class RayServe(Peer):
    name: str = "ray"

    def start(self, port: int) -> Process:
        if not self.python.is_file():
            raise NotThere("ray is not installed")
        # A token of its own, or Ray would write one to the home folder.
        environment = self.environment() | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        command = [str(self.python), str(SERVED / "ray_app.py"), str(port), str(self.copies)]
        return Process(self.name, command, self.work / "log", environment)

    def ready(self, port: int) -> bool:
        return "ready" in (self.work / "log").read_text(errors="replace").splitlines()

    def turn(self, request: Request) -> Turn:
        return [Message(METHOD, pack(request))]

    def read(self, answer: bytes) -> tuple[list[int], list[float]]:
        return read_packed(answer)
