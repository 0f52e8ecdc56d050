"""wrk, a compiled load generator, fed with requests that were signed beforehand."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.signing import Endpoint

SCRIPT = """
-- wrk asks for one request that it never sends: hence -1.
local heads, body, at = {}, "", -1
function init(args)
  local file = assert(io.open("%(heads)s", "rb"))
  for size in function() return file:read(8) end do heads[#heads + 1] = file:read(tonumber(size)) end
  file:close()
  if "%(body)s" ~= "" then
    file = assert(io.open("%(body)s", "rb"))
    body = file:read("*a")
    file:close()
  end
end
function request()
  at = at + 1
  return heads[(at - 1) %% #heads + 1] .. body
end
"""


class LoadFailed(RuntimeError):
    """The run had refused or broken requests, so its rate means nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run came to: requests a second and the count."""

    rate: float
    requests: int


def program() -> str:
    """The path of wrk. Raises FileNotFoundError with what to do."""
    found = shutil.which("wrk")
    if found is None:
        raise FileNotFoundError("wrk is not installed: run `make peers`")
    return found


def run(
    endpoint: Endpoint,
    folder: Path,
    heads: Sequence[bytes],
    *,
    body: bytes = b"",
    connections: int = 16,
    seconds: int,
) -> Load:
    """Send `heads` (each with `body` behind it) round and round for `seconds`. Raises LoadFailed."""
    return send(endpoint, prepare(folder, heads, body), connections=connections, seconds=seconds)


def prepare(folder: Path, heads: Sequence[bytes], body: bytes) -> Path:
    """Write what is to be sent into `folder`; the script for `send`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "heads").open("wb") as file:
        for head in heads:
            file.write(b"%08d" % len(head) + head)
    (folder / "body").write_bytes(body)
    script = folder / "load.lua"
    script.write_text(
        SCRIPT
        % {
            "heads": folder / "heads",
            "body": folder / "body" if body else "",
        }
    )
    return script


def send(endpoint: Endpoint, script: Path, *, connections: int, seconds: int) -> Load:
    """Send what `prepare` wrote. Raises LoadFailed if any answer was not 2xx or any connection broke."""
    done = subprocess.run(
        [
            program(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script),
            f"http://{endpoint.authority}/",
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )  # fmt: skip
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    if done.returncode or not rate or not count or refused or (broken and any(map(int, broken.groups()))):
        raise LoadFailed(done.stdout + done.stderr)
    return Load(float(rate.group(1)), int(count.group(1)))
