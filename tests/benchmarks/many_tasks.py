"""How long many tasks take to meet: `python -m tests.benchmarks.many_tasks 256 1000`.

The chief is a process of its own that meets as ever. The other tasks share a few processes: each
says and hears on its own connection what it would as a process, and opens no port.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tfdist.machine.ports import Reservation

RESULTS = Path(__file__).parent / "results" / "many_tasks.md"
PROCESSES = 2
HEAD = """# Many tasks meet

A job on {cores} cores ({processor}): the chief is a process, the others share {processes} processes
and speak with it as ever, with a secret. `python -m tests.benchmarks.many_tasks --write {counts}`.

| tasks | all have met after, s | chief's processor, s | others', s | messages a task to the chief |
|---:|---:|---:|---:|---:|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="+")
    parser.add_argument("--timeout", type=float, default=240.0, metavar="SECONDS")
    parser.add_argument("--missing", action="store_true", help="the last one does not come")
    parser.add_argument("--write", action="store_true", help="keep the table")
    options = parser.parse_args()
    rows = []
    for count in options.counts:
        found = measure(count, options.timeout, missing=options.missing)
        print(json.dumps(found), flush=True)
        rows.append(found)
    if options.write:
        RESULTS.write_text(_table(rows))


def measure(count: int, timeout: float, *, missing: bool = False) -> dict[str, Any]:
    """Has tasks meet.

    Args:
        count: How many there are.
        timeout: Their deadline, in seconds.
        missing: Whether the last one does not come.
    """
    others = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:2222" for n in range(1, count)]
    with Reservation(1) as free, tempfile.TemporaryDirectory() as folder:
        spec = Path(folder, "spec.json")
        own = f"127.0.0.1:{free.ports[0]}"
        spec.write_text(json.dumps({"cluster": {"worker": [own, *others]}}))
        shares = [f"{1 + part}:{count - missing}:{PROCESSES}" for part in range(PROCESSES)]
        with contextlib.ExitStack() as stack:
            running = [
                stack.enter_context(_process(spec, timeout, share)) for share in ["0", *shares]
            ]
            told = _all_told(running)
    outcomes = sum((Counter(one["outcomes"]) for one in told), Counter[str]())
    return {
        "tasks": count,
        "seconds": round(max(one["seconds"] for one in told), 2),
        "chief_processor": round(told[0]["processor"], 2),
        "others_processor": round(sum(one["processor"] for one in told[1:]), 2),
        "to_chief": told[0]["received"],
        "outcomes": [list(one) for one in outcomes.most_common(3)],
        "lines": told[0]["lines"],
        "others_lines": sum(len(one["lines"]) for one in told[1:]),
    }


@contextlib.contextmanager
def _process(spec: Path, timeout: float, share: str) -> Iterator[subprocess.Popen[str]]:
    module = "tests.benchmarks.many_tasks_job"
    command = [sys.executable, "-m", module, str(spec), str(timeout), share]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def _all_told(running: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """Has all begin at once; returns what each tells in the end."""
    for say in (None, "begin\n"):
        for one in running:
            assert one.stdin is not None
            assert one.stdout is not None
            if say is None:
                assert one.stdout.readline() == "ready\n"
            else:
                one.stdin.write(say)
                one.stdin.flush()
    return [json.loads(one.stdout.readline()) for one in running if one.stdout is not None]


def _table(rows: list[dict[str, Any]]) -> str:
    counts = " ".join(str(row["tasks"]) for row in rows)
    text = HEAD.format(**machine.describe(), processes=PROCESSES, counts=counts)
    for row in rows:
        text += (
            f"| {row['tasks']:,} | {row['seconds']:.1f} | {row['chief_processor']:.1f} | "
            f"{row['others_processor']:.1f} | {row['to_chief'] / row['tasks']:.1f} |\n"
        )
    return text


if __name__ == "__main__":
    main()
