"""How soon every task fails when one is missing, with a deadline of 10 s.

    python -m tests.figures.missing_worker

Three workers are in the spec, two are started, as real processes with TensorFlow. The time is taken
from the moment that a task begins to wait.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tfdist.cluster import Cluster
from tfdist.machine.ports import Reservation

DEADLINE = 10.0
_SCRIPT = f"""
import time, keras, tensorflow, tfdist
began = time.monotonic()
try:
    tfdist.strategy(rendezvous_timeout={DEADLINE})
except tfdist.errors.RendezvousTimeout as error:
    print(f"{{time.monotonic() - began:.2f}} | {{error}}")
"""


def main() -> None:
    """Leaves out each task in turn and prints the table."""
    print(f"| missing | task | failed after (deadline {DEADLINE:.0f} s) | message |")
    print("|---|---|---|---|")
    for missing in (0, 2):
        with Reservation(3) as reservation:
            cluster = Cluster.local(workers=3, ports=reservation.ports)
            started = {}
            for task in cluster.tasks:
                if task.index != missing:
                    environment = {**os.environ, "TF_CONFIG": cluster.to_tf_config(task)}
                    started[task] = subprocess.Popen(
                        [sys.executable, "-c", _SCRIPT],
                        env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                    )
                    time.sleep(1.0)
            for task, process in started.items():
                said, _ = process.communicate(timeout=120)
                seconds, message = said.strip().split(" | ", 1)
                print(f"| worker:{missing} | {task} | {seconds} s | {message} |", flush=True)


if __name__ == "__main__":
    main()
