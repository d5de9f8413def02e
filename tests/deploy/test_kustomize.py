"""What kustomize makes of the base, its components and overlays: built by kubectl, and valid by the schemas of Kubernetes."""

import functools
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.files import DEPLOY, read_yaml

COMPONENTS = sorted(path.name for path in (DEPLOY / "components").iterdir())
# A kind of the Prometheus operator, which publishes no schema in that form.
WITHOUT_SCHEMA = {"PodMonitor"}
# The oldest that the base says it needs.
VERSION = "1.27"
Built = dict[str, dict[str, Any]]
"""Kind -> name without a hash of its content -> object."""

pytestmark = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl is not on the PATH: it builds what is tested"
)


def build(folder: Path) -> Built:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "deprecated, or worse"
    built: Built = defaultdict(dict)
    for document in yaml.safe_load_all(done.stdout):
        kind, name = document["kind"], document["metadata"]["name"]
        if kind not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(document, VERSION, strict=True)
        built[kind][name.rpartition("-")[0] if kind in ("ConfigMap", "Secret") else name] = document
    return built


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, beside which a test may put a kustomization."""
    return Path(shutil.copytree(DEPLOY, tmp_path_factory.mktemp("kustomize") / "deploy"))


@functools.cache
def with_components(deploy: Path, *names: str) -> Built:
    folder = deploy / "-".join(("with", *names))
    folder.mkdir()
    chosen = {"resources": ["../kubernetes"], "components": [f"../components/{name}" for name in names]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(chosen))
    return build(folder)


def pod_of(built: Built, kind: str, name: str) -> dict[str, Any]:
    pod: dict[str, Any] = built[kind][name]["spec"]["template"]["spec"]
    return pod


def test_the_base(deploy: Path) -> None:
    built = build(deploy / "kubernetes")
    assert set(built) == {
        *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service")
    }
    calls, scrapes = built["NetworkPolicy"]["steersman"]["spec"]["ingress"]
    assert [port["port"] for port in (*calls["ports"], *scrapes["ports"])] == ["http", "grpc", "metrics"]
    (server,) = pod_of(built, "Deployment", "steersman")["containers"]
    assert {port["name"] for port in server["ports"]} == {"http", "grpc", "metrics"}


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_alone(deploy: Path, name: str) -> None:
    assert "steersman" in with_components(deploy, name)["Deployment"]


def test_all_components_together(deploy: Path) -> None:
    built = with_components(deploy, *COMPONENTS)
    pod = pod_of(built, "Deployment", "steersman")
    (server,) = pod["containers"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (store,) = [each for each in server["env"] if each["name"] == "STEERSMAN_REDIS_URL"]
    assert store["valueFrom"]["secretKeyRef"]["name"] in {made["metadata"]["name"] for made in built["Secret"].values()}
    # The rest of the base is what it was.
    assert server["securityContext"]["readOnlyRootFilesystem"]
    assert server["readinessProbe"]["httpGet"]["path"] == "/healthz"


def test_the_autoscaler_looks_at_the_queue(deploy: Path) -> None:
    cpu, wait = with_components(deploy, "queue-wait")["HorizontalPodAutoscaler"]["steersman"]["spec"]["metrics"]
    assert cpu["resource"]["name"] == "cpu"
    (rule,) = read_yaml("prometheus/adapter.yml")["rules"]
    assert wait["pods"]["metric"]["name"] == rule["name"]["as"]
    # The labels of a series by which a pod is found are those that the scrape job gives.
    (job,) = read_yaml("prometheus/kubernetes.yml")["scrape_configs"]
    given = {each["target_label"] for each in job["relabel_configs"] if "target_label" in each}
    assert set(rule["resources"]["overrides"]) == given


def test_the_pod_monitor_finds_the_servers_under_the_name_of_the_alerts(deploy: Path) -> None:
    built = with_components(deploy, "pod-monitor")
    monitor, deployment = built["PodMonitor"]["steersman"]["spec"], built["Deployment"]["steersman"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"] == labels
    assert labels[monitor["jobLabel"]] == "steersman"
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in deployment["template"]["spec"]["containers"][0]["ports"]}
    assert "instance" in {relabeling["targetLabel"] for relabeling in endpoint["relabelings"]}


def test_the_cluster_keeps_what_it_acknowledges(deploy: Path) -> None:
    built = with_components(deploy, "cluster")
    store = pod_of(built, "StatefulSet", "valkey")
    (container,) = store["containers"]
    settings = dict(line.split(" ", 1) for line in _lines(built["ConfigMap"]["valkey"]["data"]["valkey.conf"]))
    assert (settings["cluster-enabled"], settings["appendfsync"], settings["maxmemory-policy"]) == (
        *("yes", "always", "noeviction"),
    )
    assert settings["dir"] == container["volumeMounts"][0]["mountPath"]
    assert int(settings["maxmemory"].removesuffix("mb")) < 1024
    assert container["resources"]["limits"]["memory"] == "1Gi"
    (create,) = pod_of(built, "Job", "valkey-create")["containers"]
    for each in (container, create):
        assert each["image"].startswith("valkey/valkey:")
        assert each["securityContext"]["readOnlyRootFilesystem"]
    # The policy lets in those that need it, and the server is one of them.
    (rule,) = built["NetworkPolicy"]["valkey"]["spec"]["ingress"]
    (allowed,) = rule["from"][0]["podSelector"]["matchExpressions"]
    assert set(allowed["values"]) == {"steersman", "valkey", "valkey-create"}


def test_the_canary_is_one_pod_behind_the_same_service(deploy: Path) -> None:
    built = build(deploy / "overlays" / "canary")
    stable, canary = (built["Deployment"][name]["spec"] for name in ("steersman", "steersman-canary"))
    assert canary["replicas"] == 1
    for track, deployment in (("stable", stable), ("canary", canary)):
        selector, labels = deployment["selector"]["matchLabels"], deployment["template"]["metadata"]["labels"]
        assert selector == labels
        assert labels["steersman-track"] == track
        for kind, field in (
            ("Service", None),
            ("PodDisruptionBudget", "matchLabels"),
            ("NetworkPolicy", "matchLabels"),
        ):
            (one,) = (document["spec"] for document in built[kind].values())
            chosen = one["podSelector"] if kind == "NetworkPolicy" else one["selector"]
            assert (chosen[field] if field else chosen).items() <= labels.items()
    (scaled,) = built["HorizontalPodAutoscaler"].values()
    assert scaled["spec"]["scaleTargetRef"]["name"] == "steersman"


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]
