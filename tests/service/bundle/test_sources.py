"""Bundles in storage: S3 by a server of moto, the hub by a fake one, both on loopback. What is pulled is whole, or not there."""

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from steersman_service.bundle import pulling, sources
from steersman_service.bundle.origins import MARKS
from steersman_service.bundle.s3 import CLIENT, S3Storage
from steersman_service.bundle.signatures import PublicKeys
from steersman_service.errors import BundleError, SourceError
from steersman_service.processes.bundle_source import BundleSource
from steersman_service.settings import load_settings
from steersman_training.bundle.signing import make_key
from tests.service.bundle.fake_hub import COMMITS, TOKEN, FakeHub, fake_hub
from tests.service.bundle.made import FILES, made
from tests.service.cli.test_cli import steersman

BUCKET, HUB = "s3://models", f"hf://{FakeHub.repo}"
AWS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "of the test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """Of boto3, with the bucket `models`; the environment leads s3fs to the same server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in {**AWS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        yield client
        client.close()
    server.stop()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def source(s3: Any, tmp_path: Path) -> str:
    """A prefix of its own for each test."""
    return f"{BUCKET}/{tmp_path.name}"


def push(folder: Path, dest: str, *flags: str) -> str:
    done = steersman("bundle", "push", str(folder), dest, *flags)
    assert done.exit_code == 0, done.output
    return done.stdout


def key_of(source: str, *names: str) -> str:
    return "/".join([source.removeprefix(f"{BUCKET}/"), *names])


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_from_a_folder_to_s3_and_back(source: str, s3: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    one, two = made(tmp_path / "one"), made(tmp_path / "two", created="later")
    assert "not signed" in push(tmp_path / "one", source)
    assert sources.resolve(source) == one
    done = steersman("bundle", "pull", source, "--data", str(data))
    assert done.exit_code == 0, done.output
    folder = data / "bundles" / one
    assert f"bundle: {folder}" in done.stdout
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert json.loads((folder.parent / MARKS / one).read_text())["source"] == source
    # Another one, first beside it, then as the current one; the first stays there under its version.
    push(tmp_path / "two", source, "--no-current")
    assert sources.resolve(source) == one
    assert "was there already" in push(tmp_path / "two", source)
    assert sources.resolve(source) == two
    assert sources.resolve(f"{source}/{one}") == one
    listed = steersman("bundle", "list", source).stdout
    assert ["current" in line for line in listed.splitlines() if one in line or two in line].count(True) == 1
    # What is there is not pulled again, and no storage is asked for it but for the signature.
    s3.delete_object(Bucket="models", Key=key_of(source, one, "lower.ts"))
    assert sources.fetch(f"{source}/{one}", one, data / "bundles") == folder
    assert sources.fetch(source, sources.resolve(source), data / "bundles") == data / "bundles" / two
    assert names_in(data / "bundles") == {one, two, MARKS, pulling.LOCK}


def test_from_a_folder_to_the_hub_and_back(hub: FakeHub, tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two", created="later")
    push(tmp_path / "one", HUB)
    hub.commits[hub.refs["main"]]["LICENSE"] = b"the owner's"
    push(tmp_path / "two", HUB)
    assert sources.resolve(HUB) == two
    assert hub.tags.keys() == {one, two}
    assert hub.commits[hub.refs["main"]].keys() == {*FILES, "manifest.json", "LICENSE", ".gitattributes"}
    folder = sources.fetch(HUB, two, tmp_path / "data")
    assert names_in(folder) == {*FILES, "manifest.json"}
    # The branch has moved on since `one` was resolved: its tag has it. A revision may be a commit, too.
    assert sources.fetch(HUB, one, tmp_path / "data").name == one
    assert sources.resolve(f"{HUB}@{COMMITS[1]}") == one
    assert all(version in steersman("bundle", "list", HUB).stdout for version in (one, two))


def test_a_signature_may_come_later(source: str, tmp_path: Path) -> None:
    make_key(tmp_path / "signer", None)
    keys = PublicKeys.read(tmp_path / "signer.pub")
    version = made(tmp_path / "one")
    push(tmp_path / "one", source)
    with pytest.raises(BundleError, match=f"only bundles signed by {make_id(tmp_path)}"):
        sources.fetch(source, version, tmp_path / "data", keys)
    assert not (tmp_path / "data" / version).exists()
    sources.fetch(source, version, tmp_path / "data")
    done = steersman("bundle", "sign", str(tmp_path / "one"), "--key", str(tmp_path / "signer"))
    assert done.exit_code == 0, done.output
    assert version in done.stdout
    push(tmp_path / "one", source, "--keys", str(tmp_path / "signer.pub"))
    folder = sources.fetch(source, version, tmp_path / "data", keys)
    assert (folder / "manifest.sig").read_bytes() == (tmp_path / "one" / "manifest.sig").read_bytes()


def make_id(folder: Path) -> str:
    return PublicKeys.read(folder / "signer.pub").known


@pytest.mark.parametrize(
    ("spoil", "error", "why"),
    [
        ({"lower.ts": b"code" * 299_999 + b"evil"}, BundleError, "lower.ts: checksum differs"),
        ({"lower.ts": b"code" * 300_001}, BundleError, "lower.ts: has more bytes than the manifest says"),
        ({"lower.ts": b"code"}, SourceError, "lower.ts ended 1199996 bytes before its end"),
        ({"lower.ts": None}, BundleError, "lower.ts: is missing"),
        ({"manifest.json": b"{}"}, BundleError, "manifest.json: format version None"),
        ({"manifest.json": None}, SourceError, "has no bundle of version"),
        ({"manifest.sig": b"x" * 70_000}, BundleError, "manifest.sig: has more than 65536 bytes"),
    ],
)
def test_what_is_not_what_the_manifest_says_is_not_pulled(
    spoil: dict[str, bytes | None], error: type[Exception], why: str, source: str, s3: Any, tmp_path: Path
) -> None:
    version = made(tmp_path / "one")
    push(tmp_path / "one", source)
    for name, content in spoil.items():
        key = key_of(source, version, name)
        s3.delete_object(Bucket="models", Key=key) if content is None else s3.put_object(
            Bucket="models", Key=key, Body=content
        )
    with pytest.raises(error, match=why):
        sources.fetch(source, version, tmp_path / "data")
    assert not (tmp_path / "data" / version).exists()
    # Put right, it is pulled, and nothing is left of the attempt.
    for name in spoil:
        if (tmp_path / "one" / name).exists():
            s3.put_object(
                Bucket="models", Key=key_of(source, version, name), Body=(tmp_path / "one" / name).read_bytes()
            )
        else:
            s3.delete_object(Bucket="models", Key=key_of(source, version, name))
    assert names_in(sources.fetch(source, version, tmp_path / "data")) == {*FILES, "manifest.json"}
    assert not list((tmp_path / "data").glob(f"{pulling.TEMPORARY}*/"))


def test_an_interrupted_pull_goes_on_where_it_was(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = made(tmp_path / "one")
    push(tmp_path / "one", source)
    opened, asked = S3Storage.opened, list[str]()

    def counted(self: S3Storage, version: str, name: str) -> Any:
        asked.append(name)
        if name == "lower.ts" and asked.count(name) == 1:
            raise ConnectionResetError("cut")
        return opened(self, version, name)

    monkeypatch.setattr(S3Storage, "opened", counted)
    left = tmp_path / "data" / f"{pulling.TEMPORARY}{'0' * 64}"
    left.mkdir(parents=True)
    with pytest.raises(SourceError, match=r"cannot read lower.ts: cut"):
        sources.fetch(source, version, tmp_path / "data")
    assert not left.exists()
    # What came whole is kept, unless it was changed since.
    part = tmp_path / "data" / f"{pulling.TEMPORARY}{version}"
    (part / "README.md").chmod(0o644)
    (part / "README.md").write_bytes(b"--!\n---\n")
    asked.clear()
    asked.append("lower.ts")
    sources.fetch(source, version, tmp_path / "data")
    assert asked[1:] == ["manifest.json", "manifest.sig", "README.md", "lower.ts", "z.bin"]


def test_an_interrupted_push_is_no_bundle(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two", created="later")
    push(tmp_path / "one", source)
    storage = sources.storage_of(source)
    assert isinstance(storage, S3Storage)
    put = storage._s3.put_file

    def cut(path: str, key: str) -> None:
        if key.endswith("z.bin"):
            raise ConnectionResetError("cut")
        put(path, key)

    monkeypatch.setattr(storage._s3, "put_file", cut)
    paths = {path.name: path for path in (tmp_path / "two").iterdir()}
    with pytest.raises(SourceError, match="cannot be written: cut"):
        storage.push(two, paths, current=True)
    assert sources.resolve(source) == one
    with pytest.raises(SourceError, match="has no bundle of version"):
        sources.fetch(source, two, tmp_path / "data")
    push(tmp_path / "two", source)
    assert sources.fetch(source, sources.resolve(source), tmp_path / "data").name == two


def test_two_that_pull_the_same_bundle_pull_it_once(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = made(tmp_path / "one")
    push(tmp_path / "one", source)
    opened, asked = S3Storage.opened, list[str]()

    def counted(self: S3Storage, version: str, name: str) -> Any:
        asked.append(name)
        return opened(self, version, name)

    monkeypatch.setattr(S3Storage, "opened", counted)
    with ThreadPoolExecutor(2) as pool:
        folders = {*pool.map(lambda _: sources.fetch(source, version, tmp_path / "data"), range(2))}
    assert folders == {tmp_path / "data" / version}
    assert asked.count("lower.ts") == 1


def test_a_disk_that_is_full(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, vast = tmp_path / "data", {"size": str(1 << 50), "sha256": "0" * 64}
    version = made(tmp_path / "vast", files={"b.bin": vast})
    storage = sources.storage_of(source)
    storage.push(version, {path.name: path for path in (tmp_path / "vast").iterdir()}, current=True)
    with pytest.raises(SourceError, match=r"needs \d+ MB more, and \d+ MB are free"):
        sources.fetch(source, version, data)
    version = made(tmp_path / "one")
    push(tmp_path / "one", source)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pulling, "_sync", full)
    with pytest.raises(SourceError, match=r"No space left on device \(\d+ MB are free\)"):
        sources.fetch(source, version, data)
    assert not (data / version).exists()
    # A data folder that nothing can be written to.
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="cannot be written"):
        sources.fetch(source, version, tmp_path / "file" / "data")


def failing(source: str) -> str:
    with pytest.raises(SourceError) as caught:
        sources.resolve(source)
    assert str(caught.value).startswith(source.partition("//")[0])
    assert "of the test" not in str(caught.value)
    return str(caught.value)


def test_s3_that_has_nothing_or_gives_nothing(
    s3: Any, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "bucket does not exist" in failing("s3://nowhere/at/all")
    assert "has no object current" in failing(source)
    for content in (b"", b"../../etc", b"\xff" * 2000, b"a" * 64 + b"b" * 10_000):
        s3.put_object(Bucket="models", Key=key_of(source, "current"), Body=content)
        failing(source)
    made(tmp_path / "one")
    missing = steersman("bundle", "push", str(tmp_path / "one"), "s3://nowhere/x")
    assert missing.exit_code == 1
    assert "make the bucket first" in missing.stderr
    monkeypatch.setattr(S3Storage, "opened", forbidden)
    with pytest.raises(SourceError, match=r"cannot read manifest.json: no rights: Forbidden; check the credentials"):
        sources.fetch(source, "0" * 64, tmp_path / "data")
    monkeypatch.setitem(CLIENT, "retries", {"max_attempts": 0})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "cannot read current" in failing(source)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    assert "credentials" in failing(source)


def forbidden(self: S3Storage, version: str, name: str) -> Any:
    raise PermissionError("Forbidden")


def test_a_hub_that_has_nothing_or_gives_nothing(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no manifest.json at main" in failing(HUB)
    assert "no revision v2" in failing(f"{HUB}@v2")
    assert "no such repository" in failing("hf://owner/other")
    version = made(tmp_path / "one")
    push(tmp_path / "one", HUB)
    hub.sends["lower.ts"] = b"code" * 300_001
    with pytest.raises(BundleError, match=r"lower.ts: has more bytes than the manifest says in hf://"):
        sources.fetch(HUB, version, tmp_path / "data")
    hub.sends["lower.ts"] = b"evil" * 300_000
    with pytest.raises(BundleError, match=r"lower.ts: checksum differs"):
        sources.fetch(HUB, version, tmp_path / "data")
    with pytest.raises(SourceError, match="no revision 0000"):
        sources.fetch(HUB, "0" * 64, tmp_path / "data")
    refused = steersman("bundle", "push", str(tmp_path / "one"), f"{HUB}@side")
    assert (refused.exit_code, "main branch" in refused.stderr) == (1, True)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "HF_TOKEN" in failing(HUB)
    assert "hf_wrong" not in failing(HUB)


@pytest.mark.parametrize(
    "source",
    [
        "http://host/x",
        "s3://",
        "s3://B/x",
        "s3://key:of the test@host/x",
        "s3://b/../x",
        "hf://repo",
        "hf://a/b@",
        "gs://b/x",
    ],
)
def test_a_source_that_is_none(source: str) -> None:
    assert "write s3://BUCKET/PREFIX, hf://OWNER/REPO" in failing(source)
    assert steersman("serve", "--bundle", source).exit_code == 1


def test_a_folder_is_a_source_too(tmp_path: Path) -> None:
    one = made(tmp_path / "bundles" / "one")
    shutil.move(tmp_path / "bundles" / "one", tmp_path / "bundles" / one)
    made(tmp_path / "bundles" / "two", created="later")
    (tmp_path / "current").symlink_to("bundles/two")
    link = str(tmp_path / "current")
    assert BundleSource(link, tmp_path).target() == tmp_path / "bundles" / "two"
    with pytest.raises(SourceError, match="is a folder"):
        sources.resolve(link)
    with pytest.raises(SourceError, match="no version"):
        sources.fetch(f"{BUCKET}/x", "../../etc", tmp_path)
    (tmp_path / "bundles" / "current").symlink_to(one)
    (row,) = [
        line for line in steersman("bundle", "list", str(tmp_path / "bundles")).stdout.splitlines() if one in line
    ]
    assert "current" in row
    assert "No such file" in steersman("bundle", "list", str(tmp_path / "none")).stderr
    assert "is a folder" in steersman("bundle", "push", link, str(tmp_path)).stderr
    push_it = steersman("bundle", "push", link, "file:///x")
    assert (push_it.exit_code, "write s3://" in push_it.stderr) == (1, True)
    (tmp_path / "bundles" / "two" / "z.bin").write_bytes(b"x")
    spoilt = steersman("bundle", "push", link, f"{BUCKET}/x")
    assert (spoilt.exit_code, "z.bin" in spoilt.stderr) == (1, True)
    assert steersman("bundle", "pull", link).exit_code == 2


@pytest.mark.parametrize(
    ("package", "source", "extra"), [("s3fs", f"{BUCKET}/x", "s3"), ("huggingface_hub", HUB, "hub")]
)
def test_a_source_whose_extra_is_missing(
    package: str, source: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install 'steersman[{extra}]'" in failing(source)


def test_a_server_starts_from_s3(
    source: str, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(bundle_dir, source)
    data, keys = tmp_path / "data", bundle_dir.parent / "signer.pub"
    flags = ("--data", str(data), "--port", "0", "--metrics", "off", "--engines", "0", "--inference-threads", "1")
    command = [
        sys.executable,
        "-m",
        "steersman_service",
        "serve",
        "--bundle",
        source,
        "--bundle-keys",
        str(keys),
        *flags,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if "over gRPC" in line or " ready " in line:
                break
        server.terminate()
        said += server.stdout.readlines()
    assert server.returncode == 0, "".join(said)
    assert bundle_dir.name in names_in(data / "bundles")
    make_key(tmp_path / "other", None)
    settings = load_settings(bundle=source, bundle_keys=tmp_path / "other.pub", data=tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"manifest.sig"):
        BundleSource(settings.bundle_source, settings.bundles, tmp_path / "other.pub").target()
    assert not list((tmp_path / "elsewhere" / "bundles").glob("[0-9a-f]*"))


def test_a_signal_ends_a_server_that_waits_for_its_bundle(s3: Any, tmp_path: Path) -> None:
    """For another process that pulls into the same folder, or a storage that is slow."""
    bundles = tmp_path / "data" / "bundles"
    bundles.mkdir(parents=True)
    command = [sys.executable, "-m", "steersman_service", "serve", "--bundle", f"{BUCKET}/x/{'0' * 64}"]
    flags = ["--data", str(tmp_path / "data"), "--port", "0", "--metrics", "off", "--http", "off"]
    with (bundles / pulling.LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as server:
            while server.poll() is None and not opened(server.pid, pulling.LOCK):
                time.sleep(0.01)
            server.terminate()
            _, said = server.communicate(timeout=60)
    assert (server.returncode, "before it was ready" in said) == (0, True)
    assert not list((tmp_path / "data").glob("valkey/*.sock"))


def opened(pid: int, name: str) -> bool:
    """Whether it has a file of that name open."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed by now
            found.append(os.readlink(descriptor).endswith(name))
    return any(found)
