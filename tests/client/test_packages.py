"""The client takes grpcio and protobuf, and nothing else."""

import subprocess
import sys

ALONE = """
import importlib.abc, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        known = top in sys.stdlib_module_names or top in ("grpc", "google", "steersman", "steersman_client", "typing_extensions")
        if not known or name.startswith("google.rpc"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
from steersman_client import CallError, Client, load
with Client(sys.argv[1], timeout=60) as client:
    print(len(client.recommend(["101"], controls={"genres:Horror": 0.5}, k=3).items))
    try:
        client.recommend(k=10**6)
    except CallError as error:
        print(error)
try:
    load("somewhere")
except ImportError as error:
    print(error)
"""


def test_grpcio_and_protobuf_are_enough(address: str) -> None:
    ran = subprocess.run([sys.executable, "-c", ALONE, address], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    items, error, no_service = ran.stdout.splitlines()
    assert items == "3"
    assert error == "INVALID_ARGUMENT: k: 1000000 items; at most 1000"
    assert no_service.startswith("a bundle is loaded by the extra service: pip install 'steersman[service]'")
