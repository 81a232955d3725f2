"""Processes left five seconds after `kill -9` of the launcher, while two workers train.

python -m tests.figures.orphans
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 5
_MARK = "TFDIST_FIGURE_ORPHANS"


def alive(mark: str) -> list[int]:
    """Returns the processes that carry `mark` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if f"{_MARK}={mark}".encode() in environment.split(b"\0") and state != "Z":
                found.append(int(entry.name))
    return found


def main() -> None:
    """Kills the launcher in the middle of training, several times."""
    print("| round | processes before | left after 5 s |\n|---|---|---|")
    for number in range(1, ROUNDS + 1):
        mark = f"{os.getpid()}-{number}"
        launcher = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tfdist",
                "run",
                "--workers",
                "2",
                "--log_dir",
                f"/tmp/tfdist_orphans_{mark}",
                "-m",
                "tfdist.examples.digits",
                "--epochs",
                "10000",
            ],
            env={**os.environ, _MARK: mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert launcher.stdout is not None
        for line in launcher.stdout:  # until the second epoch is being trained
            if "Epoch 2" in line:
                break
        before = len(alive(mark))
        launcher.send_signal(signal.SIGKILL)
        time.sleep(5)
        print(f"| {number} | {before} | {len(alive(mark))} |", flush=True)
        launcher.stdout.close()
        launcher.wait()


if __name__ == "__main__":
    main()
