"""Keys, and what is signed with them. What a server makes of it: tests/service/bundle/test_trust.py."""

import base64
import json
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from steersman_training.bundle.signing import PASSPHRASE, SigningKey, read_key, version_of
from tests.service.bundle.made import made
from tests.service.cli.test_cli import steersman


def failing(*arguments: object) -> str:
    done: Result = steersman("bundle", *map(str, arguments))
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = tmp_path / "signer", tmp_path / "secret"
    secret.write_text("correct horse\nanything\n")
    done = steersman("bundle", "keygen", str(key), "--passphrase-file", str(secret))
    assert done.exit_code == 0, done.output
    assert "correct" not in done.output
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in key.read_bytes()
    own = read_key(key, b"correct horse")
    assert own.id in done.stdout
    assert "is there already" in failing("keygen", key)
    key.rename(tmp_path / "moved")
    assert "signer.pub is there already" in failing("keygen", key)
    # Without its passphrase, or with another one, it is of no use, and says what to do.
    folder = tmp_path / "bundle"
    version = made(folder)
    sign = ("sign", folder, "--key", tmp_path / "moved")
    assert f"--passphrase-file FILE, or in {PASSPHRASE}" in failing(*sign)
    secret.write_text("\n")
    assert "first line" in failing(*sign, "--passphrase-file", secret)
    monkeypatch.setenv(PASSPHRASE, "wrong horse")
    assert "the passphrase is wrong" in failing(*sign)
    assert "public key" in failing("sign", folder, "--key", f"{key}.pub")
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    assert steersman("bundle", *map(str, sign)).exit_code == 0
    # As anybody can check, without this program.
    signatures = json.loads((folder / "manifest.sig").read_text())["signatures"]
    assert [each["key_id"] for each in signatures] == [own.id]
    (tmp_path / "said").write_text(f"steersman-bundle:{version}")
    (tmp_path / "sig").write_bytes(base64.b64decode(signatures[0]["ed25519"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{key}.pub", "-rawin"]
    subprocess.run([*command, "-in", tmp_path / "said", "-sigfile", tmp_path / "sig"], check=True, capture_output=True)
    # Signed again, it has one signature of the key; no more than sixteen in all.
    assert steersman("bundle", *map(str, sign)).exit_code == 0
    assert len(json.loads((folder / "manifest.sig").read_text())["signatures"]) == 1
    others = tuple({"key_id": f"{number:016x}", "ed25519": ""} for number in range(16))
    with pytest.raises(ValueError, match="the most there may be"):
        own.sign(version, others)


def test_only_a_whole_bundle_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)
    key, folder = tmp_path / "signer", tmp_path / "bundle"
    made(folder)
    assert "without a passphrase" in steersman("bundle", "keygen", str(key)).stdout
    sign = ("sign", folder, "--key", key)
    assert "holds no manifest.json" in failing("sign", tmp_path, "--key", key)
    assert "No such file" in failing("sign", folder, "--key", tmp_path / "none")
    (tmp_path / "text").write_text("no key")
    assert "no private key in PEM" in failing("sign", folder, "--key", tmp_path / "text")
    manifest, code = (folder / "manifest.json").read_text(), (folder / "lower.ts").read_bytes()
    for wrong in ("[]", "{", '{"version": 1}', manifest.replace('"format_minor": 7', '"format_minor": 6')):
        (folder / "manifest.json").write_text(wrong)
        assert "manifest.json" in failing(*sign)
    (folder / "manifest.json").write_text(manifest)
    (folder / "lower.ts").write_bytes(code[:-1] + b"!")
    assert "lower.ts is not what the manifest says" in failing(*sign)
    (folder / "lower.ts").unlink()
    (folder / "lower.ts").symlink_to("/dev/null")
    assert "no plain file" in failing(*sign)
    (folder / "lower.ts").unlink()
    (folder / "lower.ts").write_bytes(code)
    (folder / "manifest.sig").write_text("{}")
    assert "remove it, and sign again" in failing(*sign)
    (folder / "manifest.sig").unlink()
    assert not list(tmp_path.glob(".manifest*"))
    assert steersman("bundle", *map(str, sign)).exit_code == 0


def test_training_signs_and_writes_a_model_card(bundle_dir: Path) -> None:
    """As the fixture has it written: a key, and a licence with what Markdown would read."""
    key = read_key(bundle_dir.parent / "signer", b"of the tests")
    assert isinstance(key, SigningKey)
    document = json.loads((bundle_dir / "manifest.json").read_text())
    version = document.pop("version")
    assert version == version_of(document) == bundle_dir.name
    # Ed25519 signs alike every time.
    assert (bundle_dir / "manifest.sig").read_bytes() == key.sign(version)
    assert "README.md" in document["files"]
    _, front, text = (bundle_dir / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["license_name"] == "CC-BY, *made up* | for tests"
    (result,) = told["model-index"][0]["results"]
    figures = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert figures["ndcg_at_10"] == round(document["figures"]["test.ndcg_at_10"], 4)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    (popular,) = [line for line in rows if "most popular" in line]
    assert f"{document['figures']['test_most_popular.ndcg_at_10']:.4f}" in popular
    assert sum(line.startswith("| genres:") for line in rows) == 4
    assert r"CC-BY, \*made up\* \| for tests" in text
    assert "steersman serve --bundle" in text
    assert "events of real people" in text


def test_the_key_is_read_before_anything_is_trained(tmp_path: Path) -> None:
    done = steersman(
        "train", "--sign-key", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--cache", str(tmp_path)
    )
    assert (done.exit_code, f"{tmp_path / 'none'}: No such file" in done.stderr) == (1, True)
