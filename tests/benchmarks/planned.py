"""What `tfdist plan` says of five models, and what real runs of them then took.

    python -m tests.benchmarks.planned --models cnn wide --output tests/benchmarks/results/plan.json

Memory is the peak of a process as the system tells it when the process ends.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tests.benchmarks.planned_job import BATCH

STEPS = {"mlp": 40, "wide": 20, "cnn": 16, "lstm": 40, "tiny": 2000}
JOB = ["-m", "tests.benchmarks.planned_job"]
RUNS = {
    "1 worker": (["--workers", "1"], "auto"),
    "2 workers": (["--workers", "2"], "auto"),
    "4 workers": (["--workers", "4"], "auto"),
}


def tfdist(*words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "tfdist", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if ran.returncode:
        print(f"{' '.join(words)}: {(ran.stdout + ran.stderr)[-1500:]}", file=sys.stderr)
    return ran.stdout + ran.stderr if words[0] == "run" else ran.stdout


def compare(name: str, runs: list[str]) -> list[dict[str, Any]]:
    """Plans one model, and runs it each way."""
    plan = json.loads(
        tfdist("plan", "--json", "--workers", "4", "--seconds", "3", *JOB, name, "9999999", "auto")
    )
    found = []
    for run in runs:
        options, kind = RUNS[run]
        told = tfdist("run", "--threads", "1", *options, *JOB, name, str(STEPS[name]), kind)
        peaks: dict[str, list[int]] = {}
        for task, peak in re.findall(r"\[(\w+):\d+\] PEAK (\d+)", told):
            peaks.setdefault(task, []).append(int(peak))
        steps = [float(one) for one in re.findall(r"STEP (\S+)", told)]
        planned = [task for task in plan["memory"] if task["strategy"] == run]
        (speed,) = [
            step["seconds"] for step in plan["steps"] if run.startswith(f"{step['workers']} worker")
        ]
        found.append(
            {
                "model": name,
                "run": run,
                "planned": {task["task"]: task["total"] for task in planned},
                "real": peaks,
                "planned_step": speed,
                "real_step": max(steps, default=None),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(BATCH))
    parser.add_argument("--runs", nargs="+", default=list(RUNS))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    results = [one for name in options.models for one in compare(name, options.runs)]
    told = {"machine": machine.describe(), "results": results}
    options.output.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
