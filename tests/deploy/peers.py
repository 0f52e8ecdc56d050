"""Install the servers and checkers that the tests of `deploy/` and `helm/` drive, into `.peers/` beside the sources.

Run by `make peers`. What is there in the wanted version is left alone, so only the first run takes minutes (Helm is
built from source). Whatever can't be had on this machine is said, and its tests are skipped aloud; in CI they fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent.parent / ".peers"

#: Servers and checkers out of Debian's packages. They are unpacked, not installed: no service starts.
DEBIAN = {
    "haproxy": ("haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"),
    "nginx": ("nginx",),
    "prometheus": ("prometheus",),
    "systemd": ("systemd", "libsystemd-shared", "libapparmor1", "libip4tc2", "libkmod2", "libseccomp2"),
}
#: Programs that a machine may well have; what it has is used.
OFTEN_THERE = {"systemd": "systemd-analyze"}
GO_TOOLS = ("kubeconform", "controller-gen", "helm")
#: The package whose Go types are the schemas of ServiceMonitor and PrometheusRule.
MONITORING = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
#: Where a module that kubeconform is built with carries the OpenAPI document of Kubernetes.
OPENAPI = ("k8s.io/kube-openapi", "pkg/schemaconv/testdata/swagger.json")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """Run one step to its end; what it printed. Raises CalledProcessError."""
    say("+ " + " ".join(command))
    done = subprocess.run(
        command,
        check=True,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def fresh(folder: Path, wanted: str) -> bool:
    """Whether `folder` holds just what `wanted` stands for; else it is emptied."""
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return False


def debian_programs() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        say("not on Debian: tests of HAProxy, nginx and alert rules use what is installed, or are skipped")
        return
    updated = False
    for name, packages in DEBIAN.items():
        if shutil.which(OFTEN_THERE.get(name, "")):
            continue
        folder = PEERS / name
        wanted = digest(package.encode() for package in packages)
        if fresh(folder, wanted):
            continue
        if os.geteuid() == 0 and not updated:
            run("apt-get", "update", "-qq")
            updated = True
        run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages, cwd=folder)
        for package in folder.glob("*.deb"):
            run("dpkg-deb", "-x", str(package), str(folder))
            package.unlink()
        (folder / "installed").write_text(wanted)


def go_tools() -> None:
    go = shutil.which("go")
    if go is None:
        say("Go is not installed: tests of the chart are skipped")
        return
    for name in GO_TOOLS:
        source, folder = HERE / "go" / name, PEERS / name
        wanted = digest((source / file).read_bytes() for file in ("go.mod", "go.sum"))
        if fresh(folder, wanted):
            continue
        # A tool's versions, and those of all that it is built with, stand in its go.mod and go.sum.
        run(go, "install", "-mod=readonly", "-ldflags=-s -w", "tool", cwd=source, GOBIN=str(folder / "bin"))
        (folder / "installed").write_text(wanted)
    schemas(go)


def schemas(go: str) -> None:
    """JSON schemas of every kind that a chart may hold, in the form that kubeconform reads."""
    folder = PEERS / "kubernetes-schemas"
    sources = [HERE / "go" / name / "go.sum" for name in ("kubeconform", "controller-gen")]
    wanted = digest([*(source.read_bytes() for source in sources), Path(__file__).read_bytes()])
    if fresh(folder, wanted):
        return
    module, path = OPENAPI
    home = run(go, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module, cwd=HERE / "go" / "kubeconform").strip()
    definitions = json.loads((Path(home) / path).read_bytes())["definitions"]
    closed = {name: strict(schema) for name, schema in definitions.items()}
    needs = {name: re.findall(r'"#/definitions/([^"]+)"', json.dumps(schema)) for name, schema in definitions.items()}
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            used = {one: closed[one] for one in reachable(name, needs)}
            write(folder, kind["group"], kind["version"], kind["kind"], {**closed[name], "definitions": used})
    generated = folder / "generated"
    run(
        str(PEERS / "controller-gen" / "bin" / "controller-gen"),
        "crd",
        f"paths={MONITORING}",
        f"output:crd:dir={generated}",
        cwd=HERE / "go" / "controller-gen",
    )
    for file in generated.glob("*.yaml"):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            write(folder, spec["group"], version["name"], spec["names"]["kind"], schema)
    shutil.rmtree(generated)
    (folder / "installed").write_text(wanted)


def write(folder: Path, group: str, version: str, kind: str, schema: dict[str, Any]) -> None:
    """Under the name that `{{.ResourceKind}}{{.KindSuffix}}` gives."""
    parts = [kind.lower(), group.partition(".")[0], version]
    (folder / ("-".join(part for part in parts if part) + ".json")).write_text(json.dumps(schema))


def reachable(name: str, needs: dict[str, list[str]]) -> set[str]:
    """`name` and all that it needs, directly or not."""
    found: set[str] = set()
    left = [name]
    while left:
        current = left.pop()
        if current not in found:
            found.add(current)
            left += needs[current]
    return found


def strict(schema: Any) -> Any:
    """The schema without OpenAPI's own words, refusing fields that it does not know."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    result = {name: strict(value) for name, value in schema.items() if not name.startswith("x-")}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        result["additionalProperties"] = False
    return result


def main() -> None:
    PEERS.mkdir(exist_ok=True)
    for step in (debian_programs, go_tools):
        try:
            step()
        except (subprocess.CalledProcessError, OSError) as error:
            if os.environ.get("CI"):
                raise
            say(f"not installed, its tests are skipped: {error}")


if __name__ == "__main__":
    main()
