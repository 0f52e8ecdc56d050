"""The Helm chart: renders for each of its value sets into what Kubernetes takes, and refuses what can't work."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config import Layer, environment_layer, load
from gateway.wiring.settings import PREFIX, Settings
from tests.deploy.programs import ROOT, SCHEMAS, program, run

CHART = ROOT / "helm" / "atoll"
SETS = sorted((CHART / "ci").glob("*-values.yaml"))
FROM_A_SECRET = {"ATOLL_ACCESS_KEY_ID": "AKFROMASECRET", "ATOLL_SECRET_ACCESS_KEY": "secret-from-a-secret"}
SECRETS: dict[str, Any] = {"secrets.existing": "keys"}


def helm(*arguments: str) -> str:
    """What Helm prints; its refusal is an AssertionError with its words."""
    done = run(program("helm", "bin/helm"), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rendered(values: Path | None = None, **settings: Any) -> list[dict[str, Any]]:
    """The documents of a release with a values file, and with single values (`a__b` is `a.b`)."""
    arguments = ["template", "release", str(CHART), "--kube-version", "1.31.0"]
    if values is not None:
        arguments += ["-f", str(values)]
    for name, value in settings.items():
        arguments += ["--set", f"{name.replace('__', '.')}={value}"]
    return [one for one in yaml.safe_load_all(helm(*arguments)) if one]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in documents if one["kind"] == kind]


def containers(deployment: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pod = deployment["spec"]["template"]["spec"]
    yield from pod["initContainers"]
    yield from pod["containers"]


def valid(file: Path) -> tuple[bool, str]:
    """Whether kubeconform finds every document of `file` valid, and what it said. An unknown kind is an error."""
    location = str(SCHEMAS / "{{ .ResourceKind }}{{ .KindSuffix }}.json")
    done = run(program("kubeconform", "bin/kubeconform"), "-strict", "-schema-location", location, str(file))
    return done.returncode == 0, done.stdout + done.stderr


def test_there_are_three_value_sets() -> None:
    assert len(SETS) >= 3


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.name)
def test_lint_finds_nothing(values: Path) -> None:
    helm("lint", "--strict", "--kube-version", "1.31.0", str(CHART), "-f", str(values))


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.name)
def test_every_document_is_valid_for_kubernetes(values: Path, tmp_path: Path) -> None:
    documents = rendered(values)
    assert of_kind(documents, "Deployment")
    assert of_kind(documents, "Service")
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    assert valid(file) == (True, "")


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0, "imagePulPolicy"), "Always"),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "nine"),
        ("HorizontalPodAutoscaler", ("spec", "metrics", 0, "resource", "targets"), {}),
        ("ServiceMonitor", ("spec", "endpoints", 0, "pathh"), "/"),
        ("NetworkPolicy", ("spec", "ingress", 0, "to"), []),
    ],
)
def test_the_schemas_find_a_wrong_field(kind: str, path: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    (document,) = of_kind(rendered(CHART / "ci" / "scaled-values.yaml"), kind)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(document))
    good, said = valid(file)
    assert not good
    assert kind in said


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.name)
def test_containers_run_with_as_little_as_they_need(values: Path) -> None:
    (deployment,) = of_kind(rendered(values), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] >= 10000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in containers(deployment):
        security = container["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
    writable = {one["mountPath"] for one in pod["containers"][0]["volumeMounts"] if not one.get("readOnly")}
    assert {path for path in writable if not path.startswith("/var/lib/atoll/nodes")} == {"/var/lib/atoll", "/tmp"}


def test_each_node_has_a_volume_of_its_own_when_it_can() -> None:
    documents = rendered(CHART / "ci" / "scaled-values.yaml")
    pod = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]
    variables = {one["name"]: one.get("value", "") for one in pod["containers"][0]["env"]}
    mounted = {one["mountPath"]: one["name"] for one in pod["containers"][0]["volumeMounts"]}
    claims = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"]}
    folders = variables["ATOLL_NODES"].split(",")
    assert [claims[mounted[folder]] for folder in folders] == [f"node-{letter}" for letter in "abcdef"]
    assert not of_kind(documents, "PersistentVolumeClaim")


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.name)
def test_a_pod_has_the_time_that_its_drain_takes(values: Path) -> None:
    (deployment,) = of_kind(rendered(values), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    variables = {one["name"]: one.get("value", "") for one in pod["containers"][0]["env"]}
    delay = float(variables["ATOLL_HTTP_DRAIN_DELAY"].rstrip("s"))
    timeout = float(variables["ATOLL_HTTP_DRAIN_TIMEOUT"].rstrip("s"))
    probe = pod["containers"][0]["readinessProbe"]
    assert pod["terminationGracePeriodSeconds"] > delay + timeout
    assert delay > probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize("values", SETS, ids=lambda path: path.name)
def test_every_variable_is_a_setting_of_the_program(values: Path) -> None:
    (deployment,) = of_kind(rendered(values), "Deployment")
    variables = {
        one["name"]: one.get("value", FROM_A_SECRET.get(one["name"], "postgresql://host/from-a-secret"))
        for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert len(variables) >= 7
    layer: Layer = environment_layer(Settings, variables, PREFIX)
    assert load(Settings, [layer]).address() == ("0.0.0.0", 9000)


def test_no_secret_lies_in_the_deployment() -> None:
    values = CHART / "ci" / "single-values.yaml"
    given = yaml.safe_load(values.read_text())["secrets"]
    documents = rendered(values)
    (secret,) = of_kind(documents, "Secret")
    assert set(secret["stringData"].values()) == set(given.values())
    others = yaml.safe_dump_all([one for one in documents if one["kind"] != "Secret"])
    assert [value for value in given.values() if value in others] == []


def test_without_postgres_there_is_one_gateway_and_never_two() -> None:
    documents = rendered(**SECRETS, autoscaling__enabled="true", replicas=4)
    (deployment,) = of_kind(documents, "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert not of_kind(documents, "HorizontalPodAutoscaler")
    assert not of_kind(documents, "PodDisruptionBudget")


def test_the_first_start_is_made_by_one_gateway() -> None:
    many: dict[str, Any] = {**SECRETS, "postgres__secret": "catalog", "nodes__claim": "nodes"}
    first = rendered(**many, firstStart="true")
    (deployment,) = of_kind(first, "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["template"]["spec"]["containers"][0]["args"] == ["serve", "--init"]
    later = rendered(**many)
    (deployment,) = of_kind(later, "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["args"] == ["serve"]
    assert of_kind(later, "HorizontalPodAutoscaler")
    assert of_kind(later, "PodDisruptionBudget")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "secrets.existing"),
        ({**SECRETS, "replica": 3}, "replica"),
        ({**SECRETS, "replicas": 0}, "replicas"),
        ({**SECRETS, "nodes__size": "much"}, "size"),
        ({**SECRETS, "service__type": "ExternalName"}, "type"),
        ({**SECRETS, "settings.limits\\.max_requests": 5}, "max_requests"),
        ({"secrets.rootKey": "short"}, "rootKey"),
        ({**SECRETS, "postgres__secret": "catalog"}, "ReadWriteMany"),
    ],
)
def test_values_that_cannot_work_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(AssertionError) as refused:
        rendered(**settings)
    assert said in str(refused.value)


def test_the_chart_is_of_the_program_s_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    semantic = project.replace(".dev", "-dev.")
    assert (chart["appVersion"], chart["version"]) == (semantic, semantic)


def test_every_value_is_described_by_the_schema() -> None:
    helm("lint", "--kube-version", "1.31.0", str(CHART), "--set", "secrets.existing=keys")
