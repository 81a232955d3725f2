"""Sums of many workers level by level beside TensorFlow's ring, over several hosts.

    python -m tests.benchmarks.many_sums        # as root, some six minutes on two cores

Each host is a network namespace; `tc` limits what its cable carries. Writes
`tests/benchmarks/results/many_sums.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import machine
from tests.benchmarks.many_sums_job import WAYS
from tests.benchmarks.slow_link import limit
from tests.benchmarks.tables import table
from tests.conftest import ROOT
from tfdist.diagnose import namespace_hosts
from tfdist.strategies.sum_levels import levels_of

RESULT = Path(__file__).parent / "results" / "many_sums.md"
SIZES = (4 << 10, 64 << 10, 1 << 20, 8 << 20)
CASES = ((2, 3, 0), (2, 4, 0), (4, 3, 0), (4, 3, 1000), (6, 2, 1000), (12, 1, 1000))
"""Hosts, tasks on each, and Mbit/s of a host's link; 0 for no limit."""
PORT, SECONDS = 2300, 300


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.many_sums")
    parser.add_argument("--turns", type=int, default=6, help="of each way")
    arguments = parser.parse_args()
    if reason := namespace_hosts.reason_against():
        raise SystemExit(f"many_sums: {reason}")
    rows = []
    for count, tasks, mbit in CASES:
        found = measured(count, tasks, mbit, arguments.turns)
        levels = levels_of([str(n // tasks) for n in range(count * tasks)], wanted=True)
        shape = " x ".join(map(str, levels.sizes)) if levels else "ring"
        head = [str(count), str(tasks), f"{mbit:,}" if mbit else "no limit", shape]
        for size in SIZES:
            ring, by_levels = (found[f"{way} {size}"] for way in WAYS)
            ratio = statistics.median(b / a for a, b in zip(ring, by_levels, strict=True))
            cells = [f"{statistics.median(one):.1f}" for one in (ring, by_levels)]
            rows.append([*head, f"{size >> 10:,}", *cells, f"{ratio:.2f}"])
            head = ["", "", "", ""]
        print(rows[-len(SIZES) :], flush=True)
    RESULT.write_text(page(rows, arguments.turns))
    print(RESULT.read_text())


def measured(count: int, tasks: int, mbit: int, turns: int) -> dict[str, list[float]]:
    """Milliseconds a sum of each turn, as the chief has seen them."""
    with namespace_hosts.Hosts(count) as hosts, tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            limit(hosts, number, mbit)
        places = [(host, PORT + task) for host in range(count) for task in range(tasks)]
        cluster = {"worker": [f"{hosts.addresses[host]}:{port}" for host, port in places]}
        jobs = []
        for index, (host, _) in enumerate(places):
            environ = {
                **os.environ,
                "TF_CONFIG": json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                ),
                "PYTHONPATH": str(ROOT),
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "2",
                "TF_CPP_MIN_LOG_LEVEL": "2",
            }
            command = [sys.executable, "-m", "tests.benchmarks.many_sums_job"]
            command += [",".join(map(str, SIZES)), str(turns)]
            words = [str(word) for word in hosts.on(host, command)]
            log = Path(folder, f"{index}.log")
            with log.open("w") as said:
                job = subprocess.Popen(
                    words, env=environ, stdout=subprocess.PIPE, stderr=said, text=True
                )
            jobs.append((job, log))
        try:
            told = [job.communicate(timeout=SECONDS)[0] for job, _ in jobs]
        finally:
            for job, _ in jobs:
                job.kill()
        for job, log in jobs:
            if job.returncode:
                raise SystemExit(log.read_text()[-2000:])
    found: dict[str, list[float]] = json.loads(told[0].splitlines()[-1])
    return found


def page(rows: list[list[str]], turns: int) -> str:
    """The results as Markdown."""
    heads = ["hosts", "tasks on each", "Mbit/s", "levels", "KiB", "ring, ms", "levels, ms", "ratio"]
    told = machine.describe()
    versions = ", ".join(f"{n} {told['versions'][n]}" for n in ("python", "tensorflow", "keras"))
    return (
        "# Sums of many workers\n\n"
        'A sum by TensorFlow\'s ring, and level by level (`communication="hierarchical"`): within '
        "a host first, and between many hosts in groups. Hosts are network namespaces, whose links "
        "`tc` limits; all tasks share the machine's cores, so that what a sum copies and how often "
        "a task is waked weigh more than on machines of their own. Medians of "
        f"{turns} turns, of each pair's ratio too. `python -m tests.benchmarks.many_sums`.\n\n"
        f"{table(heads, rows)}\n\n"
        f"{told['cores']} cores {told['processor']}, {told['system']}; {versions}.\n"
    )


if __name__ == "__main__":
    main()
