"""From the kill of a task to the first step that is trained again, and the steps that come twice.

    python -m tests.figures.recovery                             some ten minutes on two cores
    python -m tests.figures.recovery --ways sync,elastic --kills 10

One job a way, of small models, with a checkpoint of every tenth step: once it trains, a task is
killed (SIGKILL), and again, until there were enough. Writes `tests/figures/results/recovery.md`;
what an earlier call has found of other ways stays there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import machine

RESULTS = Path(__file__).parent / "results"
SCRIPT = Path(__file__).with_name("killed.py")
LONGEST = 120.0
"""Seconds after which a job that does not train again has failed."""


@dataclasses.dataclass(frozen=True)
class Way:
    """A kind of job, and whom of it is killed."""

    name: str
    kind: str
    launch: tuple[str, ...]
    victims: tuple[str, ...]


WAYS = {
    "sync": Way(
        "2 workers in step, started again",
        "multi_worker_mirrored",
        ("--workers", "2"),
        ("worker:0", "worker:1"),
    ),
    "elastic": Way(
        "2 workers in step, `--workers 1:2`: on with the other one",
        "multi_worker_mirrored",
        ("--workers", "1:2", "--settle", "1"),
        ("worker:0", "worker:1"),
    ),
    "worker": Way(
        "parameter servers: the only worker, started again by itself",
        "parameter_server",
        ("--workers", "1", "--ps", "1"),
        ("worker:0",),
    ),
    "ps": Way(
        "parameter servers: the chief or the ps, started again",
        "parameter_server",
        ("--workers", "1", "--ps", "1"),
        ("chief:0", "ps:0"),
    ),
    "pipeline": Way(
        "a pipeline of 2, started again",
        "pipeline",
        ("--chief", "--workers", "1"),
        ("chief:0", "worker:0"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Step:
    """A step that the chief has seen."""

    time: float
    pid: int
    number: int


def steps_in(folder: Path) -> list[Step]:
    """All steps that were noted, in order."""
    path = folder / "steps"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    words = [line.split() for line in lines]
    return [Step(float(at), int(pid), int(number)) for at, pid, number in words]


def measure(way: Way, kills: int) -> list[dict[str, Any]]:
    """Runs a job, and kills a task of it again and again."""
    chance = random.Random(1)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pids").mkdir()
        launch = ["--max_restarts", str(10 * kills), "--log_dir", str(folder / "logs"), *way.launch]
        job = subprocess.Popen(
            [sys.executable, "-m", "tfdist", "run", *launch, str(SCRIPT), name, way.kind],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            after = 0.0  # what came before does not count
            while len(found) < kills:
                wait_for_steps(folder, after, 12)
                if not all(is_alive(folder, victim) for victim in way.victims):
                    time.sleep(0.2)  # an elastic job takes it in again soon
                    continue
                time.sleep(chance.uniform(0, 1))
                victim = chance.choice(way.victims)
                killed = time.time()
                os.kill(int((folder / "pids" / victim).read_text()), signal.SIGKILL)
                again = first_step(folder, killed, way)
                before = [step.number for step in steps_in(folder) if step.time < again.time]
                seconds = again.time - killed
                repeated = max(0, max(before) + 1 - again.number)
                found.append({"killed": victim, "seconds": seconds, "repeated": repeated})
                print(f"{way.name}: {found[-1]}", flush=True)
                after = again.time
        finally:
            job.send_signal(signal.SIGKILL)  # the guardian ends what is left
            job.wait()
            time.sleep(1)
    return found


def is_alive(folder: Path, task: str) -> bool:
    """Whether a task runs; after a loss, an elastic job has fewer."""
    path = folder / "pids" / task
    try:
        return "Z" not in Path(f"/proc/{path.read_text()}/stat").read_text().split(")")[1]
    except OSError:
        return False


def wait_for_steps(folder: Path, after: float, count: int) -> None:
    """Waits until so many steps were taken after a time by one process, and none is lost since."""
    deadline = time.monotonic() + LONGEST
    while True:
        steps = [step for step in steps_in(folder) if step.time > after]
        if steps and sum(step.pid == steps[-1].pid for step in steps) >= count:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {count} steps within {LONGEST:g} s")
        time.sleep(0.1)


def first_step(folder: Path, killed: float, way: Way) -> Step:
    """The first step that was taken by those who came after a kill."""
    before = steps_in(folder)[-1].pid
    goes_on = way is WAYS["worker"]  # the same chief
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        for step in steps_in(folder):
            # What ran as the worker was killed may still come, so a moment is left out.
            if step.time > killed + (0.2 if goes_on else 0) and (goes_on or step.pid != before):
                return step
        time.sleep(0.02)
    raise TimeoutError(f"no step within {LONGEST:g} s")


def main() -> None:
    """Measures what was asked for, and writes JSON and Markdown after each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ways", type=lambda names: names.split(","), default=[*WAYS])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    file = asked.output / "recovery.json"
    before = json.loads(file.read_text()) if file.exists() else {"ways": {}}
    found: dict[str, Any] = {"machine": machine.describe(), "ways": before["ways"]}
    for way in asked.ways:
        found["ways"][way] = measure(WAYS[way], asked.kills)
        file.write_text(json.dumps(found, indent=1) + "\n")
        (asked.output / "recovery.md").write_text(markdown(found))
    print((asked.output / "recovery.md").read_text())


def markdown(found: dict[str, Any]) -> str:
    """Returns the table: a line a way."""
    here = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    lines = [
        "| job | kills | seconds to the next step, median | worst | steps twice, median | worst |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, way in WAYS.items():
        if kills := found["ways"].get(name):
            seconds = [kill["seconds"] for kill in kills]
            again = [kill["repeated"] for kill in kills]
            lines.append(
                f"| {way.name} | {len(kills)} | {statistics.median(seconds):.1f} | "
                f"{max(seconds):.1f} | {statistics.median(again):g} | {max(again)} |"
            )
    how = (
        "A task is killed (SIGKILL) while a job on one machine trains a small model with a "
        "checkpoint of every tenth step; the time ends as the first step after it has been "
        "trained. Most of it is the start of Python and TensorFlow. Measured by "
        f"`python -m tests.figures.recovery`, {here['cores']} cores ({here['processor']}), shared "
        f"with others; {versions}."
    )
    return "\n\n".join(["# From a kill to training again", how, "\n".join(lines)]) + "\n"


if __name__ == "__main__":
    main()
