"""Ray Serve behind its gRPC ingress: replicas that batch for up to 500 us. Prints a line when it serves.

python ray_app.py PORT REPLICAS
"""

import asyncio
import signal
import sys
from typing import Any, NamedTuple

import grpc
import ray
from ranker import Ranker
from ray import serve

SERVICE = "bench.Ranker"
METHOD = "Rank"


class Packed(NamedTuple):
    """Ray serialises answers itself, by this method."""

    content: bytes

    def SerializeToString(self) -> bytes:
        return self.content


def add_ranker(servicer: Any, server: Any) -> None:
    """What generated code of a service would do: bytes in, bytes out, so that no message is parsed twice."""
    handler: Any = grpc.unary_unary_rpc_method_handler(servicer.Rank)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
class Served:
    def __init__(self) -> None:
        self._ranker = Ranker.from_environment()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.0005)
    async def batched(self, packed: list[bytes]) -> list[bytes]:
        return self._ranker.answers(packed)

    async def Rank(self, packed: bytes) -> Packed:
        return Packed(await self.batched(packed))


async def main(port: int, replicas: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    options = {"port": port, "grpc_servicer_functions": ["ray_app.add_ranker"]}
    serve.start(http_options={"host": "127.0.0.1", "port": port + 1}, grpc_options=options)
    serve.run(Served.options(num_replicas=replicas).bind(), name="ranker")
    print("ready", flush=True)
    await stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
