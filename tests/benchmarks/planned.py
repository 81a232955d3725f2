"""What `tfdist plan` says of five models, and what real runs of them then took.

    python -m tests.benchmarks.planned --markdown docs/figures/plan.md

plans and runs each model and writes the page; `--models tiny --runs "1 worker"` does less, and
`--output results.json` keeps the numbers. Memory is the peak of a process as the system tells it,
seconds are the median of three parts of a run. It takes ten minutes on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tests.benchmarks.planned_job import BATCH
from tests.benchmarks.planned_page import page

STEPS = {"mlp": 42, "wide": 18, "cnn": 18, "lstm": 42, "tiny": 6000}
_OF_FOUR = ("mlp", "wide")  # on two cores only their memory says something
JOB = ["-m", "tests.benchmarks.planned_job"]
RUNS = {
    "1 worker": (["--workers", "1"], "auto"),
    "2 workers": (["--workers", "2"], "auto"),
    "4 workers": (["--workers", "4"], "auto"),
    "2 workers, shard_optimizer": (["--workers", "2"], "shares"),
    "1 worker, 1 ps": (["--workers", "1", "--ps", "1"], "auto"),
    "2 workers, 1 ps": (["--workers", "2", "--ps", "1"], "auto"),
    "2-stage pipeline": (["--chief", "--workers", "2"], "pipeline"),
}


def tfdist(*words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "tfdist", *words],
        capture_output=True,
        text=True,
        timeout=900,  # it is minutes on a machine that is busy
        check=False,
    )
    if ran.returncode:
        print(f"{' '.join(words)}: {(ran.stdout + ran.stderr)[-1500:]}", file=sys.stderr)
    return ran.stdout + ran.stderr if words[0] == "run" else ran.stdout


def compare(name: str, runs: list[str]) -> list[dict[str, Any]]:
    """Plans one model, and runs it each way that the plan knows: one layer is no pipeline."""
    options = ["--json", "--workers", "4", "--seconds", "2"]
    plan = json.loads(tfdist("plan", *options, *JOB, name, str(STEPS[name]), "auto"))
    speeds = {f"{one['workers']} worker{'s' * (one['workers'] > 1)}": one for one in plan["steps"]}
    speeds |= {one["strategy"]: one for one in plan["other_steps"]}
    found = []
    for run in runs:
        if run in speeds and (run != "4 workers" or name in _OF_FOUR):
            found.append({"model": name, "run": run, **_planned(plan, run), **_real(name, run)})
            found[-1]["planned_step"] = speeds[run]["seconds"]
            print(json.dumps(found[-1]), flush=True)
    return found


def _planned(plan: dict[str, Any], run: str) -> dict[str, Any]:
    tasks = [task for task in plan["memory"] if task["strategy"] == run]
    return {"planned": {task["task"]: task["total"] for task in tasks}}


def _real(name: str, run: str) -> dict[str, Any]:
    options, kind = RUNS[run]
    with tempfile.TemporaryDirectory() as logs:
        options = ["--threads", "1", "--log_dir", logs, *options]
        told = tfdist("run", *options, *JOB, name, str(STEPS[name]), kind)
    peaks: dict[str, int] = {}
    for task, number, peak in re.findall(r"\[(\w+):(\d+)\] PEAK (\d+)", told):
        what = f"stage {number}" if kind == "pipeline" and task == "worker" else task
        peaks[what] = max(peaks.get(what, 0), int(peak))
    steps = [float(one) for one in re.findall(r"STEP (\S+)", told)]
    return {"real": peaks, "real_step": statistics.median(steps) if steps else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(BATCH), choices=list(BATCH))
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--output", type=Path, help="write the numbers, as JSON")
    parser.add_argument("--markdown", type=Path, help="write the page, as docs/figures/plan.md")
    parser.add_argument("--again", type=Path, help="take the numbers of an --output; run nothing")
    options = parser.parse_args()
    if options.again is not None:
        told = json.loads(options.again.read_text())
    else:
        results = [one for name in options.models for one in compare(name, options.runs)]
        told = {"machine": machine.describe(), "results": results}
    if options.output is not None:
        options.output.write_text(json.dumps(told, indent=1) + "\n")
    text = page(told)
    if options.markdown is not None:
        options.markdown.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
