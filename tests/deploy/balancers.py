"""HAProxy and nginx as they ship, on loopback: the files of `deploy/` with addresses and paths of a test put in."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.deploy.programs import ROOT, library_path, program
from tests.harness.live_server import free_port


def put_in(text: str, replaced: Mapping[str, str]) -> str:
    """`text` with each key of `replaced`, which must be there exactly once, replaced."""
    for old, new in replaced.items():
        assert text.count(old) == 1, f"the shipped file has {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    return text


class Balancer:
    """A running balancer in front of two gateways. `http` and `https` are its ports on 127.0.0.1."""

    def __init__(self, folder: Path, gateways: Sequence[int], certificates: Path) -> None:
        self.folder, self.gateways, self.certificates = folder, gateways, certificates
        self.http, self.https = free_port(), free_port()
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """The program in the foreground, its configuration written."""
        raise AssertionError("made by a subclass")

    def check(self) -> list[str]:
        """The program judging its configuration."""
        raise AssertionError("made by a subclass")

    environment: str = ""

    def start(self) -> None:
        command = self.command()
        environment = library_path(self.environment)
        checked = subprocess.run(self.check(), env=environment, capture_output=True, text=True, timeout=20)
        assert checked.returncode == 0, checked.stderr
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.wait(10)

    def wait(self, seconds: float) -> None:
        """Until it serves."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=5)
                with contextlib.closing(connection):
                    connection.request("GET", "/")
                    if connection.getresponse().status == 403:  # the gateway's answer to nobody's ListBuckets
                        return
            time.sleep(0.1)
        pytest.fail(f"no answer through the balancer:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)
            self._process = None

    def connections_to_gateways(self) -> int:
        """Those that are open now, of this process."""
        assert self._process is not None
        ours = set()
        for one in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                ours.add(str(one.readlink()))
        found = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            port, state, inode = int(fields[2].partition(":")[2], 16), fields[3], fields[9]
            found += port in self.gateways and state == "01" and f"socket:[{inode}]" in ours
        return found

    def temporary_bytes(self) -> int:
        """What the balancer has laid down on disk."""
        return sum(one.stat().st_size for one in self.folder.rglob("*") if one.is_file() and one != self.log)


class HAProxy(Balancer):
    environment = "haproxy"

    def _binary(self) -> str:
        return program("haproxy", "usr/sbin/haproxy")

    def command(self) -> list[str]:
        pem = self.folder / "atoll.pem"
        pem.write_bytes((self.certificates / "cert.pem").read_bytes() + (self.certificates / "key.pem").read_bytes())
        text = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
        replaced = {
            "bind :80\n": f"bind 127.0.0.1:{self.http}\n",
            "bind :443 ": f"bind 127.0.0.1:{self.https} ",
            "/etc/haproxy/atoll.pem": str(pem),
            "192.0.2.11:9000": f"127.0.0.1:{self.gateways[0]}",
            "192.0.2.12:9000": f"127.0.0.1:{self.gateways[1]}",
        }
        (self.folder / "haproxy.cfg").write_text(put_in(text, replaced))
        return [self._binary(), "-db", "-f", str(self.folder / "haproxy.cfg")]

    def check(self) -> list[str]:
        return [self._binary(), "-c", "-f", str(self.folder / "haproxy.cfg")]


class Nginx(Balancer):
    environment = "nginx"

    def _arguments(self) -> list[str]:
        binary = program("nginx", "usr/sbin/nginx")
        return [binary, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]

    def command(self) -> list[str]:
        text = (ROOT / "deploy" / "nginx" / "atoll.conf").read_text()
        replaced = {
            "listen 80;": f"listen 127.0.0.1:{self.http};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.https} ssl;",
            "/etc/nginx/atoll.crt": str(self.certificates / "cert.pem"),
            "/etc/nginx/atoll.key": str(self.certificates / "key.pem"),
            "192.0.2.11:9000": f"127.0.0.1:{self.gateways[0]}",
            "192.0.2.12:9000": f"127.0.0.1:{self.gateways[1]}",
        }
        (self.folder / "atoll.conf").write_text(put_in(text, replaced))
        places = "".join(
            f"    {kind}_temp_path {self.folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"daemon off;\nmaster_process off;\npid {self.folder}/pid;\nerror_log stderr info;\n"
            f"events {{ worker_connections 1024; }}\n"
            f"http {{\n    access_log off;\n{places}    include {self.folder}/atoll.conf;\n}}\n"
        )
        return self._arguments()

    def check(self) -> list[str]:
        return [*self._arguments(), "-t"]


KINDS: Mapping[str, type[Balancer]] = {"haproxy": HAProxy, "nginx": Nginx}
