"""Clients that others have written: Node's gRPC, Connect's, and an HTTP/2 load generator that knows nothing of gRPC."""

import re
import struct
import subprocess
import sysconfig
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2

from steersman.v1.control_pb2 import OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_service.http.contract import services
from tests.interop.conftest import Show
from tests.interop.processes import PATIENCE_SECONDS, ROOT, Served, scraped, serving

REQUESTS, CONNECTIONS, STREAMS = 3000, 4, 8
RECOMMEND = {"grpc_service": "steersman.v1.RecommendationService", "grpc_method": "Recommend"}


def run(*command: str | Path) -> str:
    """What `command` printed. Fails with all of it if the command does."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def test_node(served: Served, show: Show) -> None:
    client = Path(__file__).with_name("client.mjs")
    # The .proto files of google.rpc come with the Python packages that the server needs.
    google = Path(sysconfig.get_path("purelib"))
    metrics, store = f"http://{served.metrics}/metrics", str(served.store_pid)
    printed = run("node", client, served.address, metrics, store, ROOT / "proto", google)
    for line in printed.splitlines():
        show(f"Node: {line}")


def test_connect(bundle_dir: Path, tmp_path: Path, show: Show) -> None:
    """Connect's own clients for browsers and for Node, over each protocol of the gateway."""
    descriptors = tmp_path / "descriptors"
    descriptors.write_bytes(described().SerializeToString())
    with serving(bundle_dir, tmp_path / "data", http="on", http_port=0) as server:
        printed = run("node", Path(__file__).with_name("web.mjs"), server.http, descriptors)
    for line in printed.splitlines():
        show(f"Node: {line}")


def described() -> FileDescriptorSet:
    """The contract and what it imports, as a compiler would write it, each file after those that it imports."""
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        found[file.name] = file

    for service in services():
        add(service.file)
    add(error_details_pb2.DESCRIPTOR)
    described = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(described.file.add())
    waiting = [message for file in described.file for message in file.message_type]
    for message in waiting:
        waiting += message.nested_type
        for field in message.field:  # a compiler writes it down, and protobuf-es reads it
            field.json_name = field.json_name or json_name(field.name)
    return described


def json_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def test_h2load(served: Served, tmp_path: Path, show: Show) -> None:
    control = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)
    request = RecommendRequest(history=History(item_ids=["100", "104", "108"]), controls=[control], k=5)
    body = tmp_path / "body"
    # A gRPC message: one byte that says it is not compressed, and its length in four.
    body.write_bytes(struct.pack(">BI", False, request.ByteSize()) + request.SerializeToString())
    url = f"http://{served.address}/steersman.v1.RecommendationService/Recommend"
    headers = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    size = ("-n", str(REQUESTS), "-c", str(CONNECTIONS), "-m", str(STREAMS))
    before = handled(served)
    printed = run("h2load", *size, *headers, "-d", body, url)
    assert f"{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout" in printed
    assert f"status codes: {REQUESTS} 2xx" in printed
    # HTTP says 200 whatever became of the call: the server's own count tells.
    assert [after - then for after, then in zip(handled(served), before, strict=True)] == [REQUESTS, REQUESTS]
    rate = re.search(r"([\d.]+) req/s", printed)
    shape = f"{CONNECTIONS} connections of {STREAMS} streams"
    show(f"h2load: {REQUESTS} raw calls on {shape}: all 2xx, all counted as OK by the server; {rate and rate[0]}")


def handled(served: Served) -> tuple[float, float]:
    """Calls of Recommend that ended, and those of them that ended well."""
    name = "grpc_server_handled_total"
    return scraped(served.metrics, name, **RECOMMEND), scraped(served.metrics, name, **RECOMMEND, grpc_code="OK")
