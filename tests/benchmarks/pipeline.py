"""A pipeline over two workers beside the same model in one process.

    python -m tests.benchmarks.pipeline                        # all, about 15 minutes on two cores
    python -m tests.benchmarks.pipeline --parts speed --models dense --rounds 3

Each worker is pinned to a core of its own, and so is the single process; the chief, which reads the
data, is not pinned. `speed`: all cases are alive together and take turns. `memory`: the most that
each worker held while it trained, over what it held before, for each schedule. `split`: every cut
of an uneven model into two stages beside the automatic one. `towers`: two branches of one stage on
one worker and on two. `equal`: the weights after 20 steps.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from tests.benchmarks.line import Line
from tests.benchmarks.machine import describe
from tests.benchmarks.pipeline_job import Case
from tfdist.launch import local_cluster

FLAGS = flags.FLAGS
RESULTS = Path(__file__).with_name("results")
ROOT = Path(__file__).parents[2]
PARTS = ("speed", "memory", "split", "towers", "equal")
MODELS = {"dense": 2048, "conv": 128}
"""The batch of each model."""

_BOUNDS: dict[str, Callable[[int], float]] = {
    "gpipe": lambda m: 2 * m / (m + 1),
    "1f1b": lambda m: 2 * m / (m + 1),
    "zero_bubble": lambda m: 6 * m / (3 * m + 1),
    "interleaved": lambda m: 4 * m / (2 * m + 1),
    "zb_v": lambda m: 12 * m / (6 * m + 1),
}
"""The most that two stages can gain by each schedule, where a backward takes two forwards' time."""
_MICROBATCHES = ("1", "2", "4", "8", "16")
_ACCUMULATED = 8
_TIMEOUT = 600.0
_SMALL_BLOCKS_STAY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc gives every larger block back at once: what a process holds is what it uses."""


class Side:
    """A job that can be asked.

    Args:
        line: to its chief.
        folder: where its workers have written their process ids.
    """

    def __init__(self, line: Line, folder: Path) -> None:
        self._line = line
        self._folder = folder

    def ask(self, what: str, case: Case | None = None, **more: Any) -> dict[str, Any]:
        """Asks, and waits for the answer."""
        if case is not None:
            more["case"] = dataclasses.asdict(case)
        self._line.send(what=what, **more)
        answer = self._line.receive()
        if "error" in answer:
            raise RuntimeError(f"{what} of {case}: {answer['error']}")
        return answer

    def memory(self, name: str) -> list[int]:
        """A line of /proc/PID/status of each worker, in bytes."""
        found = []
        for path in sorted(self._folder.glob("worker*")):
            status = Path("/proc", path.read_text(), "status").read_text()
            [line] = [line for line in status.splitlines() if line.startswith(f"{name}:")]
            found.append(1024 * int(line.split()[1]))
        return found

    def forget_the_peak(self) -> None:
        """Has the kernel count each worker's most memory anew."""
        for path in self._folder.glob("worker*"):
            Path("/proc", path.read_text(), "clear_refs").write_text("5")


@contextmanager
def job(workers: int, environ: dict[str, str] | None = None) -> Iterator[Side]:
    """Runs a chief and workers, or, with no workers, one process on one core."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", **(environ or {})}
    variables.pop("TF_CONFIG", None)
    with (
        ExitStack() as stack,
        socket.create_server(("127.0.0.1", 0)) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        server.settimeout(_TIMEOUT)
        command = [sys.executable, "-m", "tests.benchmarks.pipeline_job"]
        command += [str(server.getsockname()[1]), folder]
        own: list[dict[str, str]] = [{}]
        if workers:
            cluster = stack.enter_context(local_cluster(workers=workers, chief=True))
            own = [{"TF_CONFIG": cluster.to_tf_config(task)} for task in cluster.tasks]
        for extra in own:
            output = None if FLAGS.show else subprocess.DEVNULL
            process = subprocess.Popen(
                command, env={**variables, **extra}, stdout=output, stderr=output
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        line = Line(server.accept()[0], _TIMEOUT)
        stack.callback(line.close)
        line.receive()
        yield Side(line, Path(folder))


def speed(results: dict[str, Any]) -> None:
    """Step times of every schedule and number of microbatches, beside one process on one core."""
    for name in FLAGS.models:
        one = Case(name, MODELS[name])
        cases = {"one process": one, "one process, jit_compile": dataclasses.replace(one, jit=True)}
        label = f"one process, {_ACCUMULATED} accumulated"
        cases[label] = dataclasses.replace(one, microbatches=_ACCUMULATED)
        for count in map(int, FLAGS.microbatches):
            for schedule in FLAGS.schedules:
                case = dataclasses.replace(one, microbatches=count, schedule=schedule)
                cases[f"{schedule} {count}"] = case
        times: dict[str, list[float]] = {label: [] for label in cases}
        with job(0) as alone, job(2) as pipe:
            sides = {label: alone if "process" in label else pipe for label in cases}
            for label, case in cases.items():
                answer = sides[label].ask("warm", case)
                logging.info("%s, %s: warm, %.0f ms", name, label, answer["ms"])
            for turn in range(FLAGS.rounds):
                order = list(cases)
                random.Random(f"{turn} {name}").shuffle(order)
                for label in order:
                    answer = sides[label].ask("train", cases[label], steps=FLAGS.steps)
                    times[label].append(answer["ms"])
                    logging.info("%s, %s: %.1f ms", name, label, answer["ms"])
        results["speed"][name] = times


def memory(results: dict[str, Any]) -> None:
    """What each worker holds at most while it trains, over what it holds before."""
    batch = 8 * MODELS["dense"]
    for schedule in FLAGS.schedules:
        case = Case("dense", batch, 16, schedule)
        with job(2, _SMALL_BLOCKS_STAY) as pipe:
            pipe.ask("stages", case)  # makes the model, and places its variables
            before = pipe.memory("VmRSS")
            pipe.forget_the_peak()
            pipe.ask("train", case, steps=3)
            peak = pipe.memory("VmHWM")
        results["memory"][schedule] = [b - a for a, b in zip(before, peak, strict=True)]
        logging.info("%s: %s", schedule, results["memory"][schedule])


def split(results: dict[str, Any]) -> None:
    """Every cut of the uneven model into two stages, and the automatic one."""
    auto = Case("uneven", 2048, 8)
    with job(2) as pipe:
        first, second = pipe.ask("stages", auto)["stages"]
        names = [*first, *second]
        cases = {name: dataclasses.replace(auto, stages=(name,)) for name in names[1:]}
        times: dict[str, list[float]] = {name: [] for name in cases}
        for case in cases.values():
            pipe.ask("warm", case)
        for turn in range(FLAGS.rounds):
            order = list(cases)
            random.Random(turn).shuffle(order)
            for name in order:
                times[name].append(pipe.ask("train", cases[name], steps=FLAGS.steps)["ms"])
        logging.info("%s; automatic: %s", times, second[0])
    results["split"] = {"times": times, "automatic": second[0]}


def towers(results: dict[str, Any]) -> None:
    """Two towers on one task, and on two."""
    cases = {
        "both on worker:0": Case("towers", 2048, 4),
        "one on each worker": Case("towers", 2048, 4, towers_apart=True),
    }
    times: dict[str, list[float]] = {label: [] for label in cases}
    with job(2) as pipe:
        for case in cases.values():
            pipe.ask("warm", case)
        for _ in range(FLAGS.rounds):
            for label, case in cases.items():
                times[label].append(pipe.ask("train", case, steps=FLAGS.steps)["ms"])
    results["towers"] = times
    logging.info("%s", times)


def equal(results: dict[str, Any]) -> None:
    """The weights after 20 steps beside plain Keras'."""
    with job(2) as pipe:
        for name in FLAGS.models:
            for schedule in FLAGS.schedules:
                case = Case(name, MODELS[name] // 8, 8, schedule)
                answer = pipe.ask("difference", case, steps=20)
                results["equal"][f"{name}, {schedule}"] = answer
                logging.info("%s, %s: %s", name, schedule, answer)


def render(results: dict[str, Any]) -> str:
    """The tables."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [
        "# Pipeline over two workers",
        "",
        (
            "**dense**: 8 layers Dense(1024), batch 2048. **conv**: 3 convolutions of 32 channels "
            "on 32 x 32 x 16 inputs and 4 of 64 on a quarter of the places, batch 128. SGD. The "
            "workers and the single process have a core each; the chief is not pinned. Medians of "
            f"{results['rounds']} turns of {results['steps']} steps, all cases taking turns; in "
            f"brackets the lowest and the highest. ({machine})"
        ),
        "",
    ]
    for name, times in results["speed"].items():
        one = min(statistics.median(v) for k, v in times.items() if "process" in k)
        lines += [f"## Speed: {name}", "", "| run | ms a step | speed-up | bound |"]
        lines += ["|---|---|---|---|"]
        for label, values in times.items():
            median = statistics.median(values)
            bound = ""
            if "process" not in label:
                schedule, count = label.split()
                bound = f"{_BOUNDS[schedule](int(count)):.2f}"
            lines.append(
                f"| {label} | {median:.1f} ({min(values):.1f} to {max(values):.1f}) "
                f"| {one / median:.2f} | {bound} |"
            )
        lines += [
            "",
            (
                "The speed-up is over the fastest of the single processes. The bound is 2M/(M+1) "
                "for GPipe and 1F1B, 6M/(3M+1) for zero_bubble, 4M/(2M+1) for interleaved, "
                "12M/(6M+1) for zb_v. The accumulated one "
                f"takes {_ACCUMULATED} microbatches one after the other on one core "
                "(`gradient_accumulation_steps`): how much of the loss is that of smaller batches."
            ),
            "",
        ]
    if found := results["memory"]:
        lines += [
            "## Memory: dense, batch 16,384, M = 16",
            "",
            (
                "What each worker holds at most while it trains, over what it holds before: "
                "activations, gradients and what is on its way."
            ),
            "",
            "| schedule | worker:0 | worker:1 |",
            "|---|---|---|",
        ]
        for schedule, values in found.items():
            cells = " | ".join(f"{value / 2**20:.0f} MB" for value in values)
            lines.append(f"| {schedule} | {cells} |")
        lines.append("")
    if found := results["split"]:
        medians = {name: statistics.median(v) for name, v in found["times"].items()}
        best = min(medians.values())
        lines += ["## Automatic split: uneven model, batch 2048, M = 8", ""]
        lines += ["| second stage begins at | ms a step | over the best |", "|---|---|---|"]
        for name, ms in medians.items():
            mark = " (automatic)" if name == found["automatic"] else ""
            lines.append(f"| {name}{mark} | {ms:.1f} | {ms / best:.2f} |")
        lines.append("")
    if found := results["towers"]:
        lines += ["## Two towers of 4 Dense(1024), batch 2048, M = 4", ""]
        lines += ["| towers | ms a step |", "|---|---|"]
        lines += [f"| {label} | {statistics.median(v):.1f} |" for label, v in found.items()]
        lines.append("")
    if found := results["equal"]:
        lines += ["## Weights after 20 steps beside plain Keras", ""]
        lines += ["| compared | largest difference | largest movement |", "|---|---|---|"]
        for label, answer in found.items():
            lines.append(f"| {label} | {answer['difference']:.1e} | {answer['moved']:.1e} |")
        lines.append("")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    content = Path(FLAGS.output, "pipeline.json")
    content.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(content.read_text()) if content.exists() else {}
    results = {"speed": {}, "memory": {}, "split": {}, "towers": {}, "equal": {}, **results}
    results |= {"machine": describe(), "rounds": FLAGS.rounds, "steps": FLAGS.steps}
    measures = {"speed": speed, "memory": memory, "split": split, "towers": towers, "equal": equal}
    for part in FLAGS.parts:
        measures[part](results)
        content.write_text(json.dumps(results, indent=1) + "\n")
        content.with_suffix(".md").write_text(render(results))
    print(render(results))


if __name__ == "__main__":
    flags.DEFINE_list("parts", list(PARTS), "What to measure.")
    flags.DEFINE_list("models", list(MODELS), "The models of speed and equal.")
    flags.DEFINE_list("schedules", list(_BOUNDS), "The schedules of speed, memory and equal.")
    flags.DEFINE_list("microbatches", list(_MICROBATCHES), "M, the microbatches of speed.")
    flags.DEFINE_string("output", str(RESULTS), "The folder for the results.")
    flags.DEFINE_integer("rounds", 5, "Turns of each case.", lower_bound=1)
    flags.DEFINE_integer("steps", 6, "Steps of a turn.", lower_bound=1)
    flags.DEFINE_bool("show", False, "Show what the processes print.")
    app.run(main)
