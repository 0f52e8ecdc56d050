"""Install the client programs that the round trips drive, into `.peers/` beside the sources.

Run by `make peers` with a bare Python: standard library only. Each client gets an environment of its own, because their
pins contradict each other. What is already there in the wanted version is left alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = ROOT / ".peers"
REQUIREMENTS = (HERE / "requirements", ROOT / "bench" / "requirements", ROOT / "tests" / "deploy" / "requirements")


def run(*command: str, cwd: Path | None = None) -> None:
    """Run one installation step; its output is the user's."""
    print("+", " ".join(command), flush=True)
    subprocess.run(command, check=True, cwd=cwd, stdin=subprocess.DEVNULL)


def fresh(stamp: Path, *sources: Path) -> bool:
    """Whether `stamp` says that exactly these sources were installed."""
    wanted = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return stamp.exists() and stamp.read_text() == wanted


def mark(stamp: Path, *sources: Path) -> None:
    stamp.write_text(hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest())


def python_clients(uv: str) -> None:
    for requirements in sorted(requirement for folder in REQUIREMENTS for requirement in folder.glob("*.txt")):
        folder = PEERS / requirements.stem
        stamp = folder / "installed"
        if fresh(stamp, requirements):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
        run(uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(requirements))
        mark(stamp, requirements)


def javascript_client() -> None:
    npm = shutil.which("npm")
    if npm is None:
        if os.geteuid() != 0:
            print("npm is not installed: the JavaScript round trip will be skipped", flush=True)
            return
        debian_packages("npm")
        npm = shutil.which("npm") or "npm"
    folder = PEERS / "js"
    sources = (HERE / "js" / "package.json", HERE / "js" / "package-lock.json")
    if fresh(folder / "installed", *sources):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in sources:
        shutil.copy(source, folder)
    run(npm, "ci", "--silent", "--no-audit", "--no-fund", cwd=folder)
    mark(folder / "installed", *sources)


def debian_packages(*names: str) -> None:
    """Programs that only the distribution carries; needs root, as CI is."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not root on Debian: install {', '.join(names)} yourself, or its round trip is skipped", flush=True)
        return
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *names)


def main() -> None:
    PEERS.mkdir(exist_ok=True)
    uv = shutil.which("uv") or sys.argv[1]
    python_clients(uv)
    javascript_client()
    missing = [package for program, package in (("restic", "restic"), ("wrk", "wrk")) if shutil.which(program) is None]
    if missing:
        debian_packages(*missing)


if __name__ == "__main__":
    main()
