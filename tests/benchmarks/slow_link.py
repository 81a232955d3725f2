"""How much of an exchange hides behind the backward pass, on two hosts with a slow link.

    python -m tests.benchmarks.slow_link          # as root, some five minutes on two cores
    python -m tests.benchmarks.slow_link --mbit 1000,300 --turns 3

Each host is a network namespace with a core of its own; `tc`'s token bucket (tbf) limits what its
cable carries. Writes `tests/benchmarks/results/slow_link.md`.
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
from tests.benchmarks.tables import table
from tests.conftest import ROOT
from tfdist.diagnose import namespace_hosts

RESULT = Path(__file__).parent / "results" / "slow_link.md"
WAYS = {
    "alone": "computing: a worker alone",
    "exchange": "the sum alone, as one",
    "exchange in buckets": "the sum alone, in buckets",
    "one sum": "a step with one sum",
    "buckets": "a step with buckets",
}
PORT = 2222
SECONDS = 400


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.slow_link")
    parser.add_argument("--mbit", default="0,1000", help="limits of the link; 0 is none")
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--turns", type=int, default=3, help="of each way")
    arguments = parser.parse_args()
    if reason := namespace_hosts.reason_against():
        raise SystemExit(f"slow_link: {reason}")
    limits = [int(one) for one in arguments.mbit.split(",")]
    found: dict[tuple[str, int], list[float]] = {}
    with namespace_hosts.Hosts(2) as hosts:
        for mbit in limits:
            for number in range(2):
                limit(hosts, number, mbit)
            for way in WAYS:
                found[way, mbit] = measured(hosts, way, arguments.steps, arguments.turns)
                print(f"{mbit or 'no'} Mbit/s, {way}: {found[way, mbit]}", flush=True)
    RESULT.write_text(page(found, limits, arguments.steps))
    print(RESULT.read_text())


def limit(hosts: namespace_hosts.Hosts, number: int, mbit: int) -> None:
    """Limits what a host sends, in millions of bits a second; 0 for no limit."""
    rule = ["tc", "qdisc", "replace", "dev", "eth0", "root"]
    rule += (
        ["tbf", "rate", f"{mbit}mbit", "burst", "256kb", "latency", "50ms"] if mbit else ["pfifo"]
    )
    subprocess.run([str(word) for word in hosts.on(number, rule)], check=True)


def measured(hosts: namespace_hosts.Hosts, way: str, steps: int, turns: int) -> list[float]:
    """Milliseconds a step of each turn."""
    cluster = {"worker": [f"{address}:{PORT}" for address in hosts.addresses]}
    jobs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 if way == "alone" else 2):
            task = {"cluster": cluster, "task": {"type": "worker", "index": number}}
            environ = {
                **os.environ,
                "TF_CONFIG": json.dumps(task),
                "PYTHONPATH": str(ROOT),
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "2",
                "TF_CPP_MIN_LOG_LEVEL": "2",
            }
            module = ["-m", "tests.benchmarks.slow_link_job", way, steps, turns]
            command = ["taskset", "-c", number, sys.executable, *module]
            words = [str(word) for word in hosts.on(number, command)]
            log = Path(folder, f"{number}.log")
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
                raise SystemExit(f"{way}: {log.read_text()[-2000:]}")
    numbers: list[float] = json.loads(told[0].splitlines()[-1])
    return numbers


def page(found: dict[tuple[str, int], list[float]], limits: list[int], steps: int) -> str:
    """The results as Markdown."""
    heads = [f"{mbit:,} Mbit/s" if mbit else "no limit" for mbit in limits]
    rows = []
    for way, text in WAYS.items():
        cells = [
            f"{statistics.median(own):.0f} ({min(own):.0f}-{max(own):.0f})"
            for own in (found[way, mbit] for mbit in limits)
        ]
        rows.append([text, *cells])
    for way, text in (("one sum", "with one sum"), ("buckets", "with buckets")):
        ratios = []
        for mbit in limits:
            parts = [
                statistics.median(found[one, mbit]) for one in ("alone", "exchange in buckets")
            ]
            ratios.append(f"{statistics.median(found[way, mbit]) / max(parts):.2f}")
        rows.append([f"{text}, times the longer of the two parts", *ratios])
    return (
        "# A slow link\n\n"
        "How much of an exchange hides behind the backward pass: Dense 784-2048-2048-2048-2048-10 "
        "(57 MB of gradients), batches of 64 a worker, SGD, two hosts (network namespaces) with a "
        "core each, whose link `tc` limits each way. Medians of turns of "
        f"{steps} steps, and the range. `python -m tests.benchmarks.slow_link`.\n\n"
        f"{table(['ms a step', *heads], rows)}\n\n"
        "The parts are computing alone and the sum alone, in buckets. A sum cannot begin before "
        "the forward pass and the last layer's backward are done, and here the sums' additions, "
        f"copies and packets take time of the cores that compute. {_machine()}\n"
    )


def _machine() -> str:
    told = machine.describe()
    names = ("python", "tensorflow", "keras")
    versions = ", ".join(f"{name} {told['versions'][name]}" for name in names)
    return f"{told['cores']} cores {told['processor']}, {told['system']}; {versions}."


if __name__ == "__main__":
    main()
