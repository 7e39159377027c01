"""The Helm chart: rendered by Helm itself, and each object held against Kubernetes' own schema."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_router_core import __version__
from ollama_router_core.config import load_config

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed (nox -s deploy)")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "ollama-router"
KUBERNETES = kubernetes_validate.latest_version()
CUSTOM = {  # not of Kubernetes itself
    "ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
    "HTTPRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
}
MODULES = Path(__file__).parent / "js" / "node_modules"
ALONE: dict[str, Any] = {}
SEVERAL: dict[str, Any] = {
    "replicaCount": 3,
    "database": {"existingSecret": "postgresql"},
    "coordination": {"existingSecret": "valkey"},
    "tokenKey": {"existingSecret": "token-key"},
}
EVERYTHING: dict[str, Any] = SEVERAL | {
    "autoscaling": {"enabled": True},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "hosts": [{"host": "ollama.example.com"}],
        "tls": [{"secretName": "tls", "hosts": ["ollama.example.com"]}],
    },
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["ollama.example.com"]},
    "serviceMonitor": {"enabled": True, "tokenSecret": {"name": "viewer"}},
    "networkPolicy": {
        "enabled": True,
        "from": [{"namespaceSelector": {"matchLabels": {"team": "ai"}}}],
        "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
    },
    "env": [{"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "openai"}}}],
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "podAnnotations": {"team": "ai"},
    "podLabels": {"team": "ai"},
    "volumes": [{"name": "authority", "secret": {"secretName": "ca"}}],
    "volumeMounts": [{"name": "authority", "mountPath": "/run/ca", "readOnly": True}],
}


def render(values: dict[str, Any]) -> dict[str, Any]:
    """The objects of a release, by kind."""
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name="demo", namespace="prod")
    objects = [yaml.safe_load(text) for name, text in texts.items() if name.endswith(".yaml")]
    return {each["kind"]: each for each in objects if each}


def container(objects: dict[str, Any]) -> dict[str, Any]:
    """The router's container."""
    (found,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_helm_finds_no_fault() -> None:
    """`helm lint`: a chart without a picture is all that it remarks."""
    found = helm.lint(str(CHART))
    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("values", [ALONE, SEVERAL, EVERYTHING], ids=["alone", "several", "everything"])
def test_kubernetes_knows_every_field(values: dict[str, Any]) -> None:
    """Strictly: a misspelled field would be ignored without a word."""
    for kind, each in render(values).items():
        if kind not in CUSTOM:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)


def checked(folder: Path, kind: str, rendered: dict[str, Any]) -> str:
    """What types (strictly: no field that they do not have) and the schema's patterns say against an object."""
    (folder / "node_modules").symlink_to(MODULES)
    source = f"""import {{{kind}, type I{kind}}} from {json.dumps(CUSTOM[kind])};
    const rendered: I{kind} = {json.dumps(rendered)};
    new {kind}(rendered).validate();"""
    (folder / "check.mts").write_text(source)
    compiler = [str(MODULES / ".bin" / "tsc"), "--strict", "--skipLibCheck", "--module", "nodenext", "check.mts"]
    for command in (compiler, ["node", "check.mjs"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            return done.stdout + done.stderr
    return ""


@pytest.mark.skipif(not MODULES.exists() or shutil.which("node") is None, reason="nox -s deploy installs the types")
@pytest.mark.parametrize("kind", CUSTOM)
def test_the_makers_of_custom_resources_know_every_field(tmp_path: Path, kind: str) -> None:
    """As the Gateway API and the Prometheus operator define them; a misspelled field would be found."""
    rendered = render(EVERYTHING)[kind]
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    assert checked(tmp_path / "good", kind, rendered) == ""
    rendered["spec"]["endpoint"] = []
    assert "does not exist in type" in checked(tmp_path / "bad", kind, rendered)


def test_kinds_come_with_what_asks_for_them() -> None:
    """One replica has a volume; several have a budget and a migration; the rest is asked for."""
    base = {"ConfigMap", "Deployment", "Service", "ServiceAccount"}
    assert set(render(ALONE)) == base | {"PersistentVolumeClaim"}
    assert set(render(SEVERAL)) == base | {"PodDisruptionBudget", "Job"}
    asked = {"HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", *CUSTOM}
    assert set(render(EVERYTHING)) == set(render(SEVERAL)) | asked


@pytest.mark.parametrize("missing", ["database", "coordination"])
def test_several_replicas_need_what_they_share(missing: str) -> None:
    """On one SQLite file, or each with limits of its own, they would be no one router."""
    values = {key: value for key, value in SEVERAL.items() if key != missing}
    with pytest.raises(helm.HelmError, match=f"set {missing}.existingSecret"):
        render(values)


@pytest.mark.parametrize(
    "values", [{"replicaCount": 0}, {"databse": {}}, {"service": {"port": "http"}}], ids=json.dumps
)
def test_values_are_checked(values: dict[str, Any]) -> None:
    """By values.schema.json; an unknown name is a mistake."""
    with pytest.raises(helm.HelmError):
        render(values)


def test_the_config_is_the_router_s() -> None:
    """It loads, listens where the Service leads, and takes the store's address from the Secret."""
    objects = render(EVERYTHING)
    text = objects["ConfigMap"]["data"]["orouter.yml"]
    config = load_config(text, env={"OROUTER_COORDINATION_URL": "redis://valkey:6379/0"})
    assert config.coordination.url is not None
    assert (config.proxy_host, config.proxy_port) == ("0.0.0.0", 11434)
    assert container(objects)["ports"][0]["containerPort"] == config.proxy_port
    names = {each["name"] for each in container(objects)["env"]}
    wanted = {"OROUTER_CONFIG", "OROUTER_DATABASE_URL", "OROUTER_COORDINATION_URL", "OROUTER_TOKEN_KEY_FILE"}
    assert names == wanted | {"OPENAI_API_KEY"}


def servers_of(values: dict[str, Any]) -> dict[str, str]:
    """The hosts of the router's servers, by name."""
    config = load_config(render(values)["ConfigMap"]["data"]["orouter.yml"])
    return {name: server.host for name, server in config.servers.items()}


def test_the_only_servers_are_those_that_were_named() -> None:
    """Nobody has to take the one of the defaults out, which stands where nothing is named."""
    assert servers_of({}) == {"ollama": "ollama"}
    assert servers_of({"config": {"servers": {"gpu1": {"host": "gpu1.example"}}}}) == {"gpu1": "gpu1.example"}
    assert servers_of({"config": {"discovery": {"dns": [{"name": "ollama.ai"}]}}}) == {}


def test_the_autoscaler_goes_by_how_long_requests_wait() -> None:
    """By pod: the seconds of the first in the queue, and no count of who waits; the metric is the router's."""
    objects = render(EVERYTHING)
    (found,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert found["pods"]["metric"]["name"] == "orouter_longest_wait_seconds"
    assert found["pods"]["target"] == {"type": "AverageValue", "averageValue": "5"}
    assert "replicas" not in objects["Deployment"]["spec"]


def test_no_secret_is_in_the_chart() -> None:
    """Secrets are referred to, none is made."""
    assert "Secret" not in render(EVERYTHING)


def test_pods_run_without_rights() -> None:
    """Nobody's, read-only, no capabilities, no token of the cluster, in the migration too."""
    objects = render(EVERYTHING)
    for kind in ("Deployment", "Job"):
        pod = objects[kind]["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for each in pod["containers"]:
            assert each["securityContext"]["readOnlyRootFilesystem"] is True
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("values", [ALONE, SEVERAL], ids=["alone", "several"])
def test_the_notes_make_nobody_whom_the_first_start_has_made(values: dict[str, Any]) -> None:
    """A command of theirs would fail; where the start's token is they tell only where it is one pod's."""
    with helm.Chart.load(str(CHART)) as chart:
        notes = chart.render(values, name="demo", namespace="prod")["ollama-router/templates/NOTES.txt"]
    assert "orouter users create NAME --role admin" in notes
    assert ("/data/first-admin-token" in notes) is (values is ALONE)


def test_files_are_where_router_and_migration_look() -> None:
    """The authority of a database is needed before there is a router."""
    objects = render(EVERYTHING)
    for kind in ("Deployment", "Job"):
        pod = objects[kind]["spec"]["template"]["spec"]
        assert EVERYTHING["volumes"][0] in pod["volumes"]
        assert EVERYTHING["volumeMounts"][0] in pod["containers"][0]["volumeMounts"]


@pytest.mark.parametrize(
    ("tls", "scheme"),
    [({}, "HTTP"), ({"tls": None, "discovery": None}, "HTTP"), ({"tls": {"certificate": "/c", "key": "/k"}}, "HTTPS")],
)
def test_a_router_with_a_certificate_is_asked_by_tls(tls: dict[str, Any], scheme: str) -> None:
    """It would never be ready otherwise, and Prometheus would call it down."""
    objects = render({"config": tls, "serviceMonitor": {"enabled": True}})
    router, scraped = container(objects), objects["ServiceMonitor"]["spec"]["endpoints"][0]
    assert scraped.get("scheme", "http") == scheme.lower()
    probes = [router[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    assert {probe["scheme"] for probe in probes} == {scheme}


def test_the_chart_is_of_the_release() -> None:
    """Its image is the one of the packages' version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_pods_leave_in_order() -> None:
    """Longer than streams may take, and first out of the Service."""
    pod = render(SEVERAL)["Deployment"]["spec"]["template"]["spec"]
    grace = load_config("servers: {one: {host: gpu}}").limits.shutdown_grace
    assert pod["terminationGracePeriodSeconds"] > grace + 5
    assert pod["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["containers"][0]["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_a_release_s_pods_are_found_by_all_that_look_for_them() -> None:
    """Service, budget, policy and monitor select the labels that pods have; the migration's pod has others."""
    objects = render(EVERYTHING)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)
    migrating = objects["Job"]["spec"]["template"]["metadata"]["labels"].items()
    assert not selectors[0].items() <= migrating


@pytest.mark.parametrize("names", [{}, {"nameOverride": "llm", "fullnameOverride": "chat"}])
def test_prometheus_calls_the_job_what_alerts_and_dashboard_do(names: dict[str, Any]) -> None:
    """Else `up` of that job would be nobody's, and no alert would come, or one for ever."""
    objects = render({**EVERYTHING, **names})
    job = objects["Service"]["metadata"]["labels"][objects["ServiceMonitor"]["spec"]["jobLabel"]]
    asked = [(CHART.parents[1] / name).read_text() for name in ("prometheus/alerts.yml", "grafana-dashboard.json")]
    assert {found for text in asked for found in re.findall(r'job=\\?"([^"\\]+)', text)} == {job}


def test_a_router_that_finds_servers_may_list_and_watch_them_and_nothing_else() -> None:
    """In the namespace where they are; without discovery it has no token at all."""
    config = {"discovery": {"kubernetes": {"selector": "app=ollama", "namespace": "models"}}}
    objects = render({"config": config})
    (rule,) = objects["Role"]["rules"]
    assert rule == {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    assert {objects[kind]["metadata"]["namespace"] for kind in ("Role", "RoleBinding")} == {"models"}
    (account,) = objects["RoleBinding"]["subjects"]
    assert account == {
        "kind": "ServiceAccount",
        "name": objects["ServiceAccount"]["metadata"]["name"],
        "namespace": "prod",
    }
    assert objects["Deployment"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is True
    for kind in ("Role", "RoleBinding"):
        kubernetes_validate.validate(objects[kind], KUBERNETES, strict=True)
