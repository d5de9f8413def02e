"""LitServe: HTTP and JSON, one worker, batching for up to 500 us."""

import json
import urllib.request
from dataclasses import dataclass

from bench.peers.client import Generator, Message, Turn, http_generator
from bench.peers.contestant import CALL_SECONDS, SERVED, NotThere, Peer, Process
from bench.peers.served.ranker import Request


@dataclass(frozen=True)
class LitServe(Peer):
    name: str = "litserve"

    def start(self, port: int) -> Process:
        if not self.python.is_file():
            raise NotThere("litserve is not installed")
        command = [str(self.python), str(SERVED / "litserve_app.py"), str(port), str(self.copies)]
        return Process(self.name, command, self.work / "log", self.environment())

    def ready(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def turn(self, request: Request) -> Turn:
        asked = {"history": request.history.tolist(), "edits": request.edits_3E.tolist()}
        return [Message("/predict", json.dumps(asked).encode())]

    def read(self, answer: bytes) -> tuple[list[int], list[float]]:
        told = json.loads(answer)
        return told["rows"], told["scores"]

    def generator(self, port: int, connections: int, streams: int) -> Generator:
        return http_generator(port, connections, streams)

    def call(self, port: int, message: Message) -> bytes:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}{message.path}", message.body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=CALL_SECONDS) as answer:
            content: bytes = answer.read()
        return content
