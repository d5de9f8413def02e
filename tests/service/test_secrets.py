"""Secrets of the settings: where they come from, and that nothing shows them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steersman_service.cli.main import make_app
from steersman_service.errors import StartupError
from steersman_service.secret_settings import secret
from steersman_service.settings import Settings, load_settings

URL = "redis://user:hunter2@store:6379/0"


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis_url").write_text(f"{URL}\n")
    (tmp_path / "metrics_token").write_text("hunter3")
    (tmp_path / "max_k").write_text("7")
    (tmp_path / "..data").mkdir()  # as Kubernetes mounts them
    monkeypatch.setenv("STEERSMAN_SECRETS_DIR", str(tmp_path))
    settings = load_settings()
    assert (secret(settings.redis_url), secret(settings.metrics_token), settings.max_k) == (URL, "hunter3", 7)
    for shown in (repr(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hunter" not in shown
    told = json.loads(json.dumps(settings.for_child()))
    (tmp_path / "redis_url").unlink()  # a process that is started again has what the first was told
    child = Settings(**told)
    assert (secret(child.redis_url), secret(child.metrics_token)) == (URL, "hunter3")
    monkeypatch.setenv("STEERSMAN_METRICS_TOKEN", " of the environment ")
    assert secret(load_settings().metrics_token) == "of the environment"
    assert load_settings(max_k=8, secrets_dir=tmp_path).max_k == 8


def test_secrets_that_are_wrong_are_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartupError, match=r"secrets_dir: .*gone: No such file"):
        load_settings(secrets_dir=tmp_path / "gone")
    (tmp_path / "redis_url").write_text(URL.replace("redis:", "hunter2:"))
    with pytest.raises(StartupError, match="redis_url: must begin") as caught:
        load_settings(secrets_dir=tmp_path)
    assert "hunter" not in str(caught.value)
    token = tmp_path / "metrics_token"
    for held, why in (
        (b"\n", "is empty"),
        (b"\xffhunter2", "UTF-8"),
        (b"x" * (2 << 20), "more than"),
        (None, "directory"),
    ):
        token.unlink(missing_ok=True)
        if held is None:
            token.mkdir()
        else:
            token.write_bytes(held)
        with pytest.raises(StartupError, match=f"secrets_dir: .*metrics_token: .*{why}"):
            load_settings(secrets_dir=tmp_path)
    token.rmdir()
    (tmp_path / "redis-url").write_text(URL)
    with pytest.raises(StartupError, match="'redis-url' is no setting"):
        load_settings(secrets_dir=tmp_path)


def test_a_gateway_sends_the_token_of_metrics_to_no_other_machine_readable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter3")
    given = ["--metrics", "http://metrics.example:9464/metrics", "--metrics-token-file", str(tmp_path / "token")]
    ran = CliRunner().invoke(make_app(), ["gateway", *given])
    assert (ran.exit_code, "would travel readable" in ran.output, "hunter3" in ran.output) == (2, True, False)


@pytest.mark.parametrize("url", [URL, "redis://store?password=hunter2", "rediss://store?ssl_password=hunter2"])
def test_no_flag_takes_a_password(url: str) -> None:
    ran = CliRunner().invoke(make_app(), ["serve", "--redis-url", url])
    assert ran.exit_code == 2
    assert "STEERSMAN_SECRETS_DIR" in ran.output
    assert "hunter2" not in ran.output
    assert "--metrics-token" not in CliRunner().invoke(make_app(), ["serve", "--help"]).output


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"jwt_keys": "keys.pem"}, "jwt_keys: needs jwt_issuer and jwt_audience"),
        ({"jwt_keys": "keys.pem", "jwt_issuer": "i", "jwt_audience": ""}, "jwt_keys: needs"),
        ({"jwt_keys": "http://keys.example/", "jwt_issuer": "i", "jwt_audience": "a"}, "begin with https://"),
        ({"jwt_keys": "ftp://localhost/", "jwt_issuer": "i", "jwt_audience": "a"}, "begin with https://"),
        ({"jwt_keys": "", "jwt_issuer": "i", "jwt_audience": "a"}, "jwt_keys: .*at least 1"),
        ({"jwt_keys": "https://u:hunter2@h/", "jwt_issuer": "i", "jwt_audience": "a"}, "jwt_keys: .*a password is not"),
        ({"certificate_identity": "on"}, "certificate_identity: needs tls_ca"),
        ({"anonymous_role": "root"}, "anonymous_role"),
        ({"reflection": "yes"}, "reflection"),
    ],
)
def test_ways_of_identity_are_whole(flags: dict[str, str], why: str) -> None:
    with pytest.raises(StartupError, match=why):
        load_settings(**flags)
