"""Dockerfiles and compose against the server's settings and against each other."""

import re
from pathlib import PurePosixPath
from typing import Any

import pytest

from steersman_service.errors import StartupError
from steersman_service.processes.exposure import check_exposed
from steersman_service.secret_settings import secret
from steersman_service.settings import PREFIX, Settings, load_settings
from tests.deploy.files import DEPLOY, ROOT, SPARE_SECONDS, read_yaml, seconds

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
DEFAULTS = Settings.model_construct()
COMPOSE = read_yaml("compose.yaml")
SERVER = COMPOSE["services"]["steersman"]
IMAGE_SETTINGS = dict(re.findall(rf"({PREFIX}\w+)=(\S+)", DOCKERFILE))


def test_settings_are_those_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is known, and has a value that the server takes."""
    for name, value in (IMAGE_SETTINGS | SERVER["environment"]).items():
        monkeypatch.setenv(name, str(value))
    settings = load_settings()
    assert {settings.host, settings.http_host, settings.metrics_host} == {"0.0.0.0"}
    assert settings.http == "on"
    # The image by itself is not open to the world; compose says that it is not one.
    assert settings.insecure == "on"
    with pytest.raises(StartupError, match=r"host: .* metrics_host: "):
        check_exposed(settings.model_copy(update={"insecure": "off"}), http=True)
    assert secret(settings.redis_url) == "redis://valkey:6379/0"


def test_the_image_is_no_root_and_gets_the_signals() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert int(user) > 0
    assert 'ENTRYPOINT ["steersman"]\nCMD ["serve"]' in DOCKERFILE
    assert f"EXPOSE {DEFAULTS.http_port} {DEFAULTS.port} {DEFAULTS.metrics_port}\n" in DOCKERFILE


def test_the_image_has_no_more_than_it_needs() -> None:
    """And nothing whose hash is not written down."""
    installed = re.findall(r"pip install (.+?)(?: &&.*)?$", DOCKERFILE, re.MULTILINE)
    hashed = [f"--require-hashes --requirement requirements{part}.txt" for part in ("-build", "", "-cuda")]
    assert installed == [*hashed[:2], "--no-deps /wheels/steersman-*.whl", hashed[2]]
    assert "pip wheel --no-deps --no-build-isolation " in DOCKERFILE


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert (lines[0], lines[-1]) == ("*", "**/__pycache__")
    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    ]
    assert sorted(f"!{source}" for source in copied) == sorted(lines[1:-1])
    assert all((ROOT / source).exists() for source in copied)


def test_compose_drains_before_it_kills() -> None:
    drain_seconds = float(SERVER["environment"].get("STEERSMAN_DRAIN_SECONDS", DEFAULTS.drain_seconds))
    assert seconds(SERVER["stop_grace_period"]) >= drain_seconds + SPARE_SECONDS


def test_compose_mounts_the_bundles_where_the_image_looks() -> None:
    (mount,) = SERVER["volumes"]
    assert mount["target"] == str(PurePosixPath(IMAGE_SETTINGS["STEERSMAN_BUNDLE"]).parent)
    assert mount["read_only"]
    # Where `make serve` and `make train` write them.
    assert (DEPLOY / mount["source"]).resolve() == (ROOT / DEFAULTS.bundle_folder).parent


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_of_compose(name: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][name]
    assert "healthcheck" in service or (service is SERVER and "HEALTHCHECK" in DOCKERFILE)
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"])
    assert re.search(r":v?\d+\.\d+\.\d+", service["image"])
    for port in service.get("ports", []):
        host, published, _ = port.split(":")
        assert host == "127.0.0.1"
        assert int(published) >= 1024
    assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])


def test_ports_are_the_defaults() -> None:
    assert SERVER["ports"] == [
        f"127.0.0.1:{port}:{port}" for port in (DEFAULTS.http_port, DEFAULTS.port, DEFAULTS.metrics_port)
    ]
    (job,) = read_yaml("prometheus/prometheus.yml")["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    assert discovery["port"] == DEFAULTS.metrics_port
    assert discovery["names"] == ["steersman"]


def test_the_version_is_that_of_the_package() -> None:
    (version,) = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert SERVER["image"] == f"steersman:{version}"
    assert f'org.opencontainers.image.version="{version}"' in DOCKERFILE
    for folder in ("kubernetes", "overlays/canary/canary"):
        (image,) = [each for each in read_yaml(f"{folder}/kustomization.yaml")["images"] if each["name"] == "steersman"]
        assert image["newTag"] == version


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.bundle"])
def test_base_images_are_fixed_and_can_be_pinned(name: str) -> None:
    """Each is an argument, so that a digest can be given, and by default a tag with a whole version."""
    text = (DEPLOY / name).read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = re.findall(r" AS (\w[\w-]*)$", text, re.MULTILINE)
    for base in (base for base in bases if base not in stages):
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+[\w-]*", arguments[base.strip("${}")]), base
