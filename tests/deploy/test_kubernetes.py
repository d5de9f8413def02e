"""The Kubernetes base against the server's settings and services. Its schemas are checked by `make deploy-check`."""

import re
from pathlib import PurePosixPath
from typing import Any

import pytest

from steersman_service.api.handlers import SERVICES
from steersman_service.http.app import READY_SERVICE
from steersman_service.http.guard import LIVE_PATH, READY_PATH
from steersman_service.processes.exposure import check_exposed
from steersman_service.rpc.services import PACKAGE
from steersman_service.secret_settings import secret
from steersman_service.settings import Settings, load_settings
from tests.deploy.files import DEPLOY, SPARE_SECONDS, read_yaml

BASE = read_yaml("kubernetes/kustomization.yaml")
SETTINGS = dict(
    line.split("=", 1)
    for line in (DEPLOY / "kubernetes/settings.env").read_text().splitlines()
    if not line.startswith("#")
)
DEPLOYMENT = read_yaml("kubernetes/deployment.yaml")["spec"]
POD = DEPLOYMENT["template"]["spec"]
(INIT,) = POD["initContainers"]
(SERVER,) = POD["containers"]
DEFAULTS = Settings.model_construct()
IMAGE_SETTINGS = dict(re.findall(r"(STEERSMAN_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text()))
LABELS = DEPLOYMENT["template"]["metadata"]["labels"]


def test_every_manifest_is_part_of_the_base() -> None:
    there = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(BASE["resources"]) == there
    (generated,) = BASE["configMapGenerator"]
    assert generated["envs"] == ["settings.env"]
    assert SERVER["envFrom"] == [{"configMapRef": {"name": generated["name"]}}]
    assert {image["name"] for image in BASE["images"]} == {SERVER["image"], INIT["image"]}


def test_settings_are_those_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is known, and has a value that the server takes."""
    for name, value in (SETTINGS | {each["name"]: "redis://x" for each in SERVER["env"]}).items():
        monkeypatch.setenv(name, value)
    assert secret(load_settings().redis_url) == "redis://x"


def test_no_settings_come_from_services() -> None:
    """A Service called steersman would set STEERSMAN_PORT to an URL, and STEERSMAN_SERVICE_HOST, which is refused."""
    assert POD["enableServiceLinks"] is False


def test_a_pod_drains_before_it_is_killed() -> None:
    assert "lifecycle" not in SERVER, "the server itself waits until load balancers have turned away"
    delay_seconds = float(SETTINGS["STEERSMAN_DRAIN_DELAY_SECONDS"])
    assert delay_seconds > 0
    drain_seconds = float(SETTINGS.get("STEERSMAN_DRAIN_SECONDS", DEFAULTS.drain_seconds))
    needed_seconds = delay_seconds + drain_seconds + SPARE_SECONDS
    assert POD["terminationGracePeriodSeconds"] >= needed_seconds


def test_probes_ask_for_services_that_there_are() -> None:
    probes = {kind: SERVER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {(probe["port"], probe["scheme"]) for probe in probes.values()} == {("http", "HTTPS")}
    # Liveness never depends on Redis: the server as a whole.
    assert (probes["startup"]["path"], probes["liveness"]["path"]) == (LIVE_PATH, LIVE_PATH)
    assert probes["readiness"]["path"] == READY_PATH
    assert READY_SERVICE in {f"{PACKAGE}.{service}" for service in SERVICES}


def test_it_may_listen_to_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the image's addresses, by what the secrets hold, which the kubelet and Prometheus get along with."""
    for name, value in (SETTINGS | IMAGE_SETTINGS).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    check_exposed(settings, http=True)
    assert not settings.demands_certificates("http")
    mounted = {mount["name"]: mount for mount in SERVER["volumeMounts"]}
    secrets = {volume["name"]: volume["secret"] for volume in POD["volumes"] if "secret" in volume}
    assert {name: volume["secretName"] for name, volume in secrets.items()} == {
        "tls": "steersman-tls",
        "keys": "steersman-keys",
    }
    for name, volume in secrets.items():
        # Readable by the pod's group, which fsGroup makes its own, and no further.
        assert volume["defaultMode"] == 0o440
        assert mounted[name]["readOnly"]
        assert "subPath" not in mounted[name]
    files = {SETTINGS[f"STEERSMAN_{name}"] for name in ("TLS_CERT", "TLS_KEY", "API_KEYS")}
    assert {str(PurePosixPath(file).parent) for file in files} == {mounted[name]["mountPath"] for name in secrets}
    (job,) = read_yaml("prometheus/kubernetes.yml")["scrape_configs"]
    assert job["scheme"] == "https"
    (endpoint,) = read_yaml("components/pod-monitor/podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == "https"
    service = read_yaml("kubernetes/service.yaml")["metadata"]["name"]
    assert job["tls_config"]["server_name"] == endpoint["tlsConfig"]["serverName"] == service


def test_ports_are_the_defaults() -> None:
    ports = {port["name"]: port["containerPort"] for port in SERVER["ports"]}
    assert ports == {"http": DEFAULTS.http_port, "grpc": DEFAULTS.port, "metrics": DEFAULTS.metrics_port}
    service = read_yaml("kubernetes/service.yaml")["spec"]
    assert service["clusterIP"] == "None"
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports


def test_everything_selects_the_pods() -> None:
    service, pdb, hpa = (read_yaml(f"kubernetes/{name}.yaml")["spec"] for name in ("service", "pdb", "hpa"))
    (spread,) = POD["topologySpreadConstraints"]
    selectors = [DEPLOYMENT["selector"]["matchLabels"], service["selector"], pdb["selector"]["matchLabels"]]
    assert all(selector == LABELS for selector in [*selectors, spread["labelSelector"]["matchLabels"]])
    assert hpa["scaleTargetRef"]["name"] == read_yaml("kubernetes/deployment.yaml")["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT


def test_prometheus_finds_the_pods() -> None:
    (job,) = read_yaml("prometheus/kubernetes.yml")["scrape_configs"]
    (discovery,) = job["kubernetes_sd_configs"]
    ((name, value),) = LABELS.items()
    assert discovery["selectors"] == [{"role": "pod", "label": f"{name}={value}"}]
    assert job["relabel_configs"][0]["regex"] in {port["name"] for port in SERVER["ports"]}


@pytest.mark.parametrize("container", [INIT, SERVER], ids=lambda container: container["name"])
def test_a_container_is_confined(container: dict[str, Any]) -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]


def test_the_user_is_that_of_the_image() -> None:
    (user, group) = re.findall(r"^USER (\d+):(\d+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[0]
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))


def test_the_bundle_goes_from_its_image_to_where_the_server_looks() -> None:
    (written,), (read, sockets, *_) = INIT["volumeMounts"], SERVER["volumeMounts"]
    assert written["name"] == read["name"]
    assert [volume["name"] for volume in POD["volumes"][:2]] == [read["name"], sockets["name"]]
    assert sockets["mountPath"] == "/tmp", "where the sockets of its processes are"
    *_, source, target = INIT["command"]
    assert f"COPY . {source.removesuffix('.')}\n" in (DEPLOY / "Dockerfile.bundle").read_text()
    assert target == f"{written['mountPath']}/"
    (looked_up,) = re.findall(r"STEERSMAN_BUNDLE=(\S+)", (DEPLOY / "Dockerfile").read_text())
    assert read["mountPath"] == str(PurePosixPath(looked_up).parent)
    assert read["readOnly"]
