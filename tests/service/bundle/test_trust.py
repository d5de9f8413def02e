"""Whose bundles are served, what of them may run, and that what was checked is what is served."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from steersman_service.bundle import files
from steersman_service.bundle.bundle import load_bundle
from steersman_service.bundle.origins import mark_pulled
from steersman_service.bundle.signatures import PublicKeys
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.concepts import check_concepts
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.loading import load_engine
from steersman_service.engine.options import EngineOptions
from steersman_service.errors import BundleError, StartupError
from steersman_service.settings import load_settings
from steersman_training.bundle.signing import make_key, sign_folder
from tests.service.bundle.test_bundle import resign
from tests.service.cli.test_cli import steersman

Entry = dict[str, str]


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    """A signed bundle that a test may spoil, in a folder of bundles of its own."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundles" / bundle_dir.name))


@pytest.fixture
def signer(bundle_dir: Path) -> Path:
    """The public key that it is signed by."""
    return bundle_dir.parent / "signer.pub"


def known(keys: Path) -> str:
    return PublicKeys.read(keys).known


def test_a_signed_bundle_is_served_by_whoever_has_the_key(copy: Path, signer: Path, tmp_path: Path) -> None:
    """And a folder of keys may have others beside it."""
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copy(signer, keys)
    make_key(keys / "other", None)
    settings = load_settings(bundle=copy, bundle_keys=keys)
    assert load_engine(settings.bundle_folder, settings.engine_options).bundle.version == copy.name
    done = steersman("bundle", "verify", str(copy), "--keys", str(keys))
    assert (done.exit_code, f"signed by {known(signer)}" in done.stdout) == (0, True)
    # A key that is added signs what is there: its version stays.
    sign_folder(copy, make_key(tmp_path / "third", None))
    assert load_bundle(copy, "onnx", tmp_path / "third.pub").version == load_bundle(copy, "onnx", signer).version
    # Other readers take no notice.
    (copy / "manifest.sig").write_bytes(b"\xff")
    assert load_bundle(copy, "onnx").version == copy.name


def unsigned(copy: Path) -> None:
    (copy / "manifest.sig").unlink()


def altered(change: Callable[[list[Entry]], object]) -> Callable[[Path], None]:
    def alter(copy: Path) -> None:
        document = json.loads((copy / "manifest.sig").read_text())
        change(document["signatures"])
        (copy / "manifest.sig").write_text(json.dumps(document))

    return alter


def flipped(entries: list[Entry]) -> None:
    signature = entries[0]["ed25519"]
    entries[0]["ed25519"] = ("B" if signature[0] == "A" else "A") + signature[1:]


def written(content: bytes) -> Callable[[Path], None]:
    def write(copy: Path) -> None:
        (copy / "manifest.sig").write_bytes(content)

    return write


def another_model(copy: Path) -> None:
    """Whole, with a manifest and a version of its own, under the signature of the one before."""
    resign(copy, lambda manifest: manifest.update(created="later"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (unsigned, "there is none, and bundle keys are set: only bundles signed by KNOWN are served"),
        (altered(flipped), "is no signature by KNOWN of version"),
        (altered(lambda entries: entries[0].update(ed25519="")), "is no signature by KNOWN of version"),
        (another_model, "is no signature by KNOWN of version"),
        (
            altered(lambda entries: entries[0].update(key_id="0" * 16)),
            "is by 0000000000000000, and the bundle keys are KNOWN",
        ),
        (altered(lambda entries: entries.clear()), "is by no key, and the bundle keys are KNOWN"),
        (altered(lambda entries: entries.extend(entries * 20)), "cannot be read: 21 signatures, more than 16"),
        (altered(lambda entries: entries[0].update(ed25519="no base64!")), "cannot be read"),
        (written(b"[" * 10_000), "cannot be read"),
        (written(b"\xff\xfe"), "cannot be read"),
        (written(b'{"signatures": null}'), "cannot be read"),
        (written(b" " * 100_000), "has more than 65536 bytes"),
    ],
)
def test_a_bundle_that_is_not_signed_by_a_known_key(
    copy: Path, signer: Path, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(copy)
    with pytest.raises(BundleError) as refused:
        load_bundle(copy, "onnx", signer)
    assert refused.value.file == "manifest.sig"
    assert why.replace("KNOWN", known(signer)) in str(refused.value)


def test_a_changed_file_or_manifest_under_a_good_signature(copy: Path, signer: Path) -> None:
    manifest = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(manifest.replace('"format_minor": 7', '"format_minor": 8'))
    with pytest.raises(BundleError, match="was changed"):
        load_bundle(copy, "onnx", signer)
    (copy / "manifest.json").write_text(manifest)
    (copy / "README.md").write_bytes((copy / "README.md").read_bytes().replace(b"0", b"9"))
    with pytest.raises(BundleError, match=r"README.md: checksum differs"):
        load_bundle(copy, "onnx", signer)
    # What is signed is checked before it is signed.
    key = ("--key", str(signer.with_suffix("")), "--passphrase-file", str(copy.parent / "secret"))
    (copy.parent / "secret").write_text("of the tests\n")
    done = steersman("bundle", "sign", str(copy), *key)
    assert (done.exit_code, "README.md is not what the manifest says" in done.stderr) == (1, True)


def test_older_bundles_beside_a_signed_one_are_signed_too(copy: Path, signer: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(copy, tmp_path / "older"))
    unsigned(older)
    assert load_bundle(copy, "onnx").manifest_of(older).version == copy.name
    with pytest.raises(BundleError, match=r"manifest.sig"):
        load_bundle(copy, "onnx", signer).manifest_of(older)


def test_keys_that_are_none(tmp_path: Path, signer: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(StartupError) as caught:
            PublicKeys.read(path)
        return str(caught.value)

    assert "No such file" in refused(tmp_path / "none")
    assert "has no file *.pub" in refused(tmp_path)
    assert "is a private key" in refused(signer.with_suffix(""))
    (tmp_path / "a.pub").write_bytes(b"ssh-ed25519 AAAA")
    assert f"{tmp_path / 'a.pub'} is no public key in PEM" in refused(tmp_path)
    curve = generate_private_key(SECP256R1()).public_key()
    (tmp_path / "a.pub").write_bytes(curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert "another kind than Ed25519" in refused(tmp_path)


def test_torchscript_runs_if_it_is_signed_or_local(copy: Path, signer: Path) -> None:
    torch = EngineOptions(backend="torch", max_batch=1)
    unsigned(copy)
    assert load_engine(copy, torch).bundle.version == copy.name  # local: no mark
    (copy / "lower.ts").chmod(0o646)
    with pytest.raises(BundleError, match=r"lower.ts: every user of this machine may write to"):
        load_engine(copy, torch)
    (copy / "lower.ts").chmod(0o644)
    mark_pulled(copy.parent, copy.name, "s3://models/x")
    with pytest.raises(BundleError, match="was pulled and is not signed: its TorchScript could be any code"):
        load_engine(copy, torch)
    # Under another name beside its mark, and through a link: pulled all the same.
    moved = copy.rename(copy.parent / "mine")
    link = copy.parent.parent / "current"
    link.symlink_to(moved)
    with pytest.raises(BundleError, match="was pulled"):
        load_engine(link, torch)
    assert load_engine(link, EngineOptions(max_batch=1)).bundle.version == copy.name  # ONNX is no code
    # A signature that no key checks is none.
    shutil.copy(signer.parent / copy.name / "manifest.sig", moved)
    with pytest.raises(BundleError, match="was pulled"):
        load_engine(link, torch)
    assert (
        load_engine(link, EngineOptions(backend="torch", max_batch=1, bundle_keys=signer)).bundle.version == copy.name
    )


def test_what_is_written_into_a_small_array_later_is_not_served(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, plain = load_bundle(copy, "onnx"), np.load(copy / "items.npy")
    monkeypatch.setattr(files, "MOST_COPIED_BYTES", 100)
    mapped = load_bundle(copy, "onnx")
    with (copy / "items.npy").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    assert np.array_equal(bundle.items_ND, plain)
    assert not np.array_equal(mapped.items_ND, plain)  # as documented: a large one is its file
    for array in (bundle.items_ND, mapped.items_ND):
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_concepts_are_those_of_the_graph(copy: Path, backend: str) -> None:
    table = pq.read_table(copy / "concepts.parquet")
    rows: list[dict[str, Any]] = table.to_pylist()

    def check(change: Callable[[list[dict[str, Any]]], object]) -> None:
        changed = [dict(row) for row in rows]
        change(changed)
        pq.write_table(type(table).from_pylist(changed, schema=table.schema), copy / "concepts.parquet")
        resign(copy)
        bundle = load_bundle(copy, backend)
        check_concepts(Graphs(bundle, load_backend(bundle, backend, "cpu", 1)))

    def swap(*columns: str) -> Callable[[list[dict[str, Any]]], None]:
        def swapped(changed: list[dict[str, Any]]) -> None:
            for column in columns:
                changed[0][column], changed[1][column] = rows[1][column], rows[0][column]

        return swapped

    check(lambda changed: None)
    with pytest.raises(BundleError, match=r"concept '.*' ?.*concept\..* does something where no item differs in"):
        check(swap("name", "attribute", "value"))
    with pytest.raises(BundleError, match=r"edits feature \d+, and its row names"):
        check(swap("features"))
    with pytest.raises(BundleError, match="its row names none"):
        check(lambda changed: changed[0].update(features=[], weights=[]))
    with pytest.raises(BundleError, match=r"items.parquet lacks"):
        check(lambda changed: changed[0].update(attribute="mood"))
