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
    ("cores", "workers", "apart"), [(1, 1, False), (2, 1, True), (2, 2, False), (3, 2, False), (8, 4, True)]
)
def test_an_engine_has_a_process_of_its_own_where_it_has_a_core_of_its_own(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, apart: bool
) -> None:
    monkeypatch.setattr("steersman_service.settings.cpu_count", lambda: cores)
    assert load_settings(workers=workers).engine_kind == ("process" if apart else "thread")
    assert load_settings(workers=workers, engine="process").engine_kind == "process"
    assert load_settings(workers=workers, engine="thread").engine_kind == "thread"


@pytest.mark.parametrize(
    ("cores", "flags", "threads"),
    [
        (1, {}, 1),
        (2, {}, 1),
        (2, {"engine": "thread"}, 2),
        (8, {}, 7),
        (8, {"workers": 4}, 1),
        (9, {"workers": 3}, 2),
        (9, {"workers": 3, "engine": "thread"}, 3),
        (9, {"workers": 3, "engine": "shared"}, 6),
        (2, {"workers": 3}, 1),
        (2, {"workers": 3, "engine": "shared"}, 1),
        (8, {"inference_threads": 3}, 3),
    ],
)
def test_engines_share_the_cores_and_leave_one_to_each_server_beside_them(
    monkeypatch: pytest.MonkeyPatch, cores: int, flags: dict[str, Any], threads: int
) -> None:
    monkeypatch.setattr("steersman_service.settings.cpu_count", lambda: cores)
    assert load_settings(**flags).threads == threads


@pytest.mark.parametrize(
    ("flags", "visible", "kind"),
    [
        ({"backend": "torch"}, None, "shared"),
        ({"backend": "torch"}, "1", "shared"),
        ({"backend": "torch"}, "", "process"),
        ({"backend": "torch", "device": "cpu"}, None, "process"),
        ({"backend": "torch", "workers": 1}, None, "process"),
        ({"backend": "torch", "engine": "process"}, None, "process"),
        ({"backend": "torch", "engine": "thread"}, None, "thread"),
        ({"backend": "onnx"}, None, "process"),
        ({"backend": "onnx", "device": "cuda"}, None, "shared"),
        ({"engine": "shared"}, None, "shared"),
        ({"engine": "shared", "workers": 1}, None, "process"),
    ],
)
def test_workers_share_the_engine_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: dict[str, Any], visible: str | None, kind: str
) -> None:
    monkeypatch.setattr("steersman_service.settings.cpu_count", lambda: 8)
    monkeypatch.setattr("steersman_service.settings.GPU_FILES", str(tmp_path / "nvidia[0-9]*"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    settings = load_settings(**{"workers": 4, **flags})
    for name in ("nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert settings.engine_kind == ("process" if kind == "shared" and flags == {"backend": "torch"} else kind)
    (tmp_path / "nvidia0").touch()
    assert settings.engine_kind == kind


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("STEERSMAN_PORTS", "1", "unknown setting STEERSMAN_PORTS"),
        ("STEERSMAN_PORT", "x", "port: "),
        ("STEERSMAN_PORT", "70000", "port: "),
        ("STEERSMAN_MAX_K", "0", "max_k: "),
        ("STEERSMAN_MAX_STRENGTH", "inf", "max_strength: "),
        ("STEERSMAN_BACKEND", "jax", "backend: "),
        ("STEERSMAN_DRAIN_SECONDS", "-1", "drain_seconds: "),
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
    assert Settings(**json.loads(settings.model_dump_json())) == settings
