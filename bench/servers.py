"""The two servers that are measured side by side, each on a fresh folder of the same file system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.signing import Endpoint
from tests.harness.live_server import ROOT_KEY_ID, ROOT_SECRET, LiveServer, free_port

PEERS = Path(__file__).resolve().parents[1] / ".peers"


class Seaweed:
    """SeaweedFS with its S3 gateway, one process, telemetry off, signatures required."""

    name = "SeaweedFS 4.48"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = Endpoint("127.0.0.1", free_port(), ROOT_KEY_ID, ROOT_SECRET)

    def start(self) -> None:
        self._folder.mkdir(parents=True)
        config = self._folder / "s3.json"
        keys = [{"accessKey": ROOT_KEY_ID, "secretKey": ROOT_SECRET}]
        identity = {"name": "root", "credentials": keys, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        config.write_text(json.dumps({"identities": [identity]}))
        data = self._folder / "data"
        data.mkdir()
        ports = {name: free_port() for name in ("master", "volume", "filer")}
        command = [
            str(PEERS / "seaweedfs" / "bin" / "weed"), "-logtostderr=true", "server", f"-dir={data}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={self.endpoint.port}", f"-s3.config={config}",
            f"-master.port={ports['master']}", f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}",
            f"-master.port.grpc={free_port()}", f"-volume.port.grpc={free_port()}", f"-filer.port.grpc={free_port()}",
            f"-s3.port.grpc={free_port()}", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-volume.max=100", "-master.volumeSizeLimitMB=4096", "-webdav=false",
        ]  # fmt: skip
        log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 60
        while not _answers(self.endpoint):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.3)
        time.sleep(3)  # it answers before its volume server has joined

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Atoll:
    """`atoll up` as a user starts it: six disk nodes, 4+2, sealed, every write synced.

    `source` is the folder of another version of the program, run with this environment's libraries.
    """

    name = "Atoll"

    def __init__(self, folder: Path, *, source: Path | None = None) -> None:
        self.server = LiveServer(folder)
        self.server.packages = source
        self.endpoint = Endpoint("127.0.0.1", self.server.port, ROOT_KEY_ID, ROOT_SECRET)

    def start(self) -> None:
        self.server.start(timeout=120)

    @property
    def pid(self) -> int:
        return self.server.pid

    def pause(self) -> None:
        self.server.pause()

    def resume(self) -> None:
        self.server.resume()

    def stop(self) -> None:
        self.server.kill()


def _answers(endpoint: Endpoint) -> bool:
    try:
        urllib.request.urlopen(f"http://{endpoint.authority}/", timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
