"""`python -m tests.powerloss.lossyfs FOLDER`: serve a volume on FOLDER, told what to do by lines on standard input.

`cut` turns the power off; `restore SEED KEEP` turns it on again: what was not synced is gone, the folder is mounted
anew. Each is answered by a line. The end of the input unmounts and ends.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from tests.powerloss.lossyfs.mounting import mount, unmount
from tests.powerloss.lossyfs.server import Server
from tests.powerloss.lossyfs.volume import Volume


class _Mount:
    def __init__(self, volume: Volume, folder: Path) -> None:
        self._folder = folder
        self._descriptor = mount(folder)
        self._thread = threading.Thread(target=Server(volume, self._descriptor).serve, daemon=True)
        self._thread.start()

    def end(self) -> None:
        unmount(self._folder)
        # Whoever is still waiting for an answer gets ENOTCONN once the descriptor is closed.
        self._thread.join(2)
        os.close(self._descriptor)


def answer(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    volume = Volume()
    current = _Mount(volume, folder)
    answer("mounted")
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "cut":
            volume.cut()
            answer("cut")
        elif command == "restore":
            current.end()
            volume.restore(int(arguments[0]), float(arguments[1]))
            current = _Mount(volume, folder)
            answer(f"restored {volume.syncs} {volume.lost}")
    current.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
