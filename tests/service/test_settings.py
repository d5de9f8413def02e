import json
from pathlib import Path
from typing import Any

import pytest

from steersman_service.errors import StartupError
from steersman_service.settings import Settings, load_settings


def test_flags_go_before_the_environment_and_that_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_PORT", "7000")
    monkeypatch.setenv("STEERSMAN_MAX_K", "7")
    monkeypatch.setenv("STEERSMAN_REDIS_URL", "")
    settings = load_settings(port=8000, host=None)
    assert (settings.port, settings.max_k, settings.host, settings.redis_url) == (8000, 7, "127.0.0.1", None)
    assert settings.bundle_folder == Path("data/bundles/current")
    assert load_settings(bundle=Path("x")).bundle_folder == Path("x")


@pytest.mark.parametrize(
    ("cores", "workers", "engines"),
    [(1, 1, 0), (2, 1, 1), (2, 2, 0), (3, 2, 0), (8, 1, 1), (8, 4, 1), (16, 1, 2), (64, 8, 8)],
)
def test_engines_are_as_many_as_the_cores_are_for(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, engines: int
) -> None:
    monkeypatch.setattr("steersman_service.settings.cpu_count", lambda: cores)
    assert load_settings(workers=workers).engine_count == engines
    for wanted in (0, 1, 3):
        assert load_settings(workers=workers, engines=wanted).engine_count == wanted


@pytest.mark.parametrize(
    ("cores", "flags", "threads"),
    [
        (1, {}, 1),
        (2, {}, 1),
        (2, {"engines": 0}, 2),
        (8, {}, 7),
        (8, {"workers": 4}, 4),
        (9, {"workers": 3, "engines": 0}, 3),
        (9, {"workers": 3, "engines": 1}, 6),
        (9, {"workers": 3, "engines": 2}, 3),
        (2, {"workers": 3, "engines": 0}, 1),
        (2, {"workers": 3, "engines": 1}, 1),
        (8, {"inference_threads": 3}, 3),
    ],
)
def test_engines_share_the_cores_and_leave_one_to_each_front_end(
    monkeypatch: pytest.MonkeyPatch, cores: int, flags: dict[str, Any], threads: int
) -> None:
    monkeypatch.setattr("steersman_service.settings.cpu_count", lambda: cores)
    assert load_settings(**flags).threads == threads


@pytest.mark.parametrize(
    ("flags", "visible", "one"),
    [
        ({"backend": "torch"}, None, True),
        ({"backend": "torch"}, "1", True),
        ({"backend": "torch"}, "", False),
        ({"backend": "torch", "device": "cpu"}, None, False),
        ({"backend": "onnx"}, None, False),
        ({"backend": "onnx", "device": "cuda"}, None, True),
    ],
)
def test_a_gpu_has_one_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: dict[str, Any], visible: str | None, one: bool
) -> None:
    monkeypatch.setattr("steersman_service.settings.cpu_count", lambda: 32)
    monkeypatch.setattr("steersman_service.settings.GPU_FILES", str(tmp_path / "nvidia[0-9]*"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    settings = load_settings(**flags)
    for name in ("nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert settings.engine_count == (1 if one and "device" in flags else 4)
    (tmp_path / "nvidia0").touch()
    assert settings.engine_count == (1 if one else 4)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("STEERSMAN_PORTS", "1", "unknown setting STEERSMAN_PORTS"),
        ("STEERSMAN_ENGINES", "-1", "engines: "),
        ("STEERSMAN_PORT", "x", "port: "),
        ("STEERSMAN_PORT", "70000", "port: "),
        ("STEERSMAN_MAX_K", "0", "max_k: "),
        ("STEERSMAN_MAX_STRENGTH", "inf", "max_strength: "),
        ("STEERSMAN_BACKEND", "jax", "backend: "),
        ("STEERSMAN_DRAIN_SECONDS", "-1", "drain_seconds: "),
        ("STEERSMAN_DRAIN_DELAY_SECONDS", "inf", "drain_delay_seconds: "),
        ("STEERSMAN_DRAIN_SECONDS", "inf", "drain_seconds: "),
        ("STEERSMAN_SESSION_TTL_SECONDS", "inf", "session_ttl_seconds: "),
        ("STEERSMAN_SESSION_TTL_SECONDS", "1e-9", "session_ttl_seconds: "),
        ("STEERSMAN_MAX_CONNECTION_AGE_SECONDS", "1e9", "max_connection_age_seconds: "),
        ("STEERSMAN_MAX_MESSAGE_BYTES", "9999999999", "max_message_bytes: "),
        ("STEERSMAN_METRICS_TOKEN", " ", "metrics_token: "),
        ("STEERSMAN_TLS_CLIENT_CERTS", ",", "tls_client_certs: is empty"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=why):
        load_settings()


@pytest.mark.parametrize(
    ("given", "taken"), [("::1", "[::1]"), ("[::]", "[::]"), ("127.0.0.1", "127.0.0.1"), ("localhost", "localhost")]
)
def test_an_address_of_ipv6_may_come_without_brackets(given: str, taken: str) -> None:
    assert load_settings(host=given).host == taken


def test_unknown_flags_are_refused() -> None:
    with pytest.raises(StartupError, match="pot"):
        load_settings(pot=1)


def test_a_worker_is_told_what_has_no_limit() -> None:
    settings = load_settings(slow_call_ms="inf", batch_ms="inf")
    assert Settings(**json.loads(json.dumps(settings.for_child()))) == settings
