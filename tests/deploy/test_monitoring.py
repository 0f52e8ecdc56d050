"""Alert rules and dashboard: right in themselves, and about figures that a gateway really gives."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.programs import ROOT, program, run
from tests.harness.live_server import LiveServer, live_server
from tests.harness.postgres_server import PostgresServer

RULES = ROOT / "deploy" / "prometheus" / "atoll.rules.yml"
RULES_TEST = Path(__file__).parent / "atoll.rules.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "atoll.json"

_SELECTOR = re.compile(r"(atoll_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'([a-z_]+)(=~|!~|!=|=)"([^"]*)"')
_SAMPLE = re.compile(r"^(atoll_[a-z_]+)(?:\{(.*)\})? \S+$", re.MULTILINE)
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
#: What Prometheus adds to every sample.
_ADDED = {"instance", "job"}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    """Everything that is asked of Prometheus."""
    asked = [rule["expr"] for rule in alerts()]
    asked += [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return asked


class Exposed:
    """What one gateway's `/-/metrics` says after some work: sample names, and their labels' values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names = {
            name + suffix
            for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
            for suffix in _SUFFIXES[kind]
        }
        self.labels: dict[str, dict[str, set[str]]] = {}
        for name, labels in _SAMPLE.findall(text):
            values = self.labels.setdefault(name, {})
            for label, value in re.findall(r'([a-z_]+)="([^"]*)"', labels):
                values.setdefault(label, set()).add(value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[LiveServer]:
    """On a shared catalog, which has figures besides."""
    database = postgres.url(asyncio.run(postgres.new_database()))
    with live_server(tmp_path_factory.mktemp("metrics"), env={"ATOLL_CATALOG": database}) as running:
        yield running


@pytest.fixture(scope="module")
def exposed(server: LiveServer) -> Exposed:
    client = server.client()
    client.create_bucket(Bucket="metrics")
    client.put_object(Bucket="metrics", Key="key", Body=b"x" * 100_000)
    client.head_object(Bucket="metrics", Key="key")
    with urllib.request.urlopen(f"{server.url}/-/metrics") as answer:
        return Exposed(answer.read().decode())


def test_every_name_is_one_that_a_gateway_gives(exposed: Exposed) -> None:
    asked = {name for expression in expressions() for name, _ in _SELECTOR.findall(expression)}
    assert len(asked) > 15
    assert asked - exposed.names == set()


def test_every_label_and_named_value_is_one_that_a_gateway_gives(exposed: Exposed) -> None:
    wrong = []
    for expression in expressions():
        for name, matchers in _SELECTOR.findall(expression):
            given = exposed.labels.get(name)
            if given is None:
                continue  # nothing failed yet: the name is checked, there is no sample
            for label, operator, value in _MATCHER.findall(matchers):
                known = given.get(label, set()) if label not in _ADDED else {value}
                named = set(value.split("|")) if operator == "=~" and label != "status" else {value}
                if not known or (label in ("event", "worker", "operation", "state") and not named <= known):
                    wrong.append((name, label, value))
        for by in re.findall(r"by \(([^)]*)\)", expression):
            grouped = {label.strip() for label in by.split(",")} - _ADDED
            names = [name for name, _ in _SELECTOR.findall(expression) if name in exposed.labels]
            wrong += [(name, by, "") for name in names if not grouped <= set(exposed.labels[name])]
    assert wrong == []


def test_promtool_takes_what_the_endpoint_says(exposed: Exposed) -> None:
    text = exposed.text.removesuffix("# EOF\n")
    # promtool reads the older text format, which has no such line and wants the help under a counter's full name.
    done = run(program("prometheus", "usr/bin/promtool"), "check", "metrics", given=text)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if not line.endswith("_total no help text")] == []
    assert run(program("prometheus", "usr/bin/promtool"), "check", "metrics", given="a b c\n").stderr


def test_the_alert_rules_are_valid_and_fire_when_they_must() -> None:
    promtool = program("prometheus", "usr/bin/promtool")
    checked = run(promtool, "check", "rules", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = run(promtool, "test", "rules", str(RULES_TEST))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_tested_explained_and_ranked() -> None:
    test = yaml.safe_load(RULES_TEST.read_text())
    fired = {check["alertname"] for one in test["tests"] for check in one["alert_rule_test"] if check.get("exp_alerts")}
    assert {rule["alert"] for rule in alerts()} == fired
    document = (ROOT / "docs" / "operations" / "monitoring.md").read_text()
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert f"| `{rule['alert']}` |" in document


def test_every_panel_asks_something_that_prometheus_understands(tmp_path: Path) -> None:
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    assert len(asked) > 30
    rules = [
        {
            "record": f"panel:{number}",
            "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for number, expression in enumerate(asked)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = run(program("prometheus", "usr/bin/promtool"), "check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_holds_together() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in panels()}) == len(panels())
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]+)\b", DASHBOARD.read_text())) - variables == set()
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
