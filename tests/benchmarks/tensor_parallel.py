"""Weights cut over two workers beside a pipeline, one process, and Keras on JAX.

    python -m tests.benchmarks.tensor_parallel               # about 12 minutes on two cores
    python -m tests.benchmarks.tensor_parallel --cases wide:64 --rounds 3 --nojax

Each worker is pinned to a core of its own, and so is the single process; the chief, which reads the
data, is not pinned. Keras on JAX cuts weights over two devices of one process, with both cores. All
are alive together and take turns. JAX must be installed, or `--nojax` given.
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from tests.benchmarks import pipeline
from tests.benchmarks.line import Line
from tests.benchmarks.machine import describe
from tests.benchmarks.pipeline_job import Case

FLAGS = flags.FLAGS
CASES = ("wide:64", "wide:512", "dense:2048", "transformer:32")
_TEXT = {
    "wide": "**wide**: Dense 784-2048-2048-2048-2048-10, 57 MB",
    "dense": "**dense**: 8 layers Dense(1024), 34 MB",
    "transformer": "**transformer**: 2 blocks of 512, 8 heads, products of 2048, 64 places, 25 MB",
}
_RUNS = {
    "one": "one process, one core",
    "pipeline": "pipeline, zero_bubble, 8 microbatches",
    "tensor_parallel": "**tensor parallel**",
    "jax one": "Keras on JAX, one device, one core",
    "jax": "Keras on JAX, `ModelParallel` over two devices of one process, two cores",
}


@contextmanager
def _on_jax(devices: int) -> Iterator[pipeline.Side]:
    """Keras on JAX, over so many devices and cores of one process."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:devices]))
    variables = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",  # else XLA's devices wait for each other for ever
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    variables.pop("TF_CONFIG", None)
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(300)
        command = ["taskset", "-c", cores, sys.executable, "-m", "tests.benchmarks.on_jax_in_parts"]
        output = None if FLAGS.show else subprocess.DEVNULL
        process = subprocess.Popen(
            [*command, str(server.getsockname()[1])], env=variables, stdout=output, stderr=output
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        line = Line(server.accept()[0], 600)
        stack.callback(line.close)
        line.receive()
        yield pipeline.Side(line, Path())


def measure(name: str, batch: int) -> dict[str, Any]:
    """Step times of one model, and what each worker holds of its weights."""
    cases = {
        "one": Case(name, batch),
        "pipeline": Case(name, batch, 8, "zero_bubble"),
        "tensor_parallel": Case(name, batch, 1, "tensor_parallel"),
    }
    with ExitStack() as stack:
        alone, both = stack.enter_context(pipeline.job(0)), stack.enter_context(pipeline.job(2))
        sides = {"one": alone, "pipeline": both, "tensor_parallel": both}
        if FLAGS.jax:
            cases |= {"jax one": cases["one"], "jax": cases["tensor_parallel"]}
            sides |= {
                "jax one": stack.enter_context(_on_jax(1)),
                "jax": stack.enter_context(_on_jax(2)),
            }
        for run, case in cases.items():
            sides[run].ask("warm", case)
        times: dict[str, list[float]] = {run: [] for run in cases}
        died: list[str] = []
        for turn in range(FLAGS.rounds):
            order = list(cases)
            random.Random(f"{turn} {name}").shuffle(order)
            for run in order:
                if run in died:
                    continue
                try:
                    answer = sides[run].ask("train", cases[run], steps=FLAGS.steps)
                except ConnectionError:
                    if run != "jax":
                        raise
                    died.append(run)  # XLA: its threads' all-reduce got stuck
                    continue
                times[run].append(answer["ms"])
            logging.info("%s %d: %s", name, batch, {run: t[-1:] for run, t in times.items()})
        held = both.ask("held", cases["tensor_parallel"])["megabytes"]
    return {"times": times, "held": held, "died": died}


def render(results: dict[str, Any]) -> str:
    """The page."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [
        "# Weights over two workers",
        "",
        "; ".join(_TEXT.values()) + ". SGD. The workers and the single process have a core each; "
        f"the chief is not pinned. Medians of {results['rounds']} turns of {results['steps']} "
        "steps, all taking turns; in brackets the lowest and the highest. `python -m "
        f"tests.benchmarks.tensor_parallel` ({machine})",
    ]
    for case, found in results["cases"].items():
        name, _, batch = case.partition(":")
        one = statistics.median(found["times"]["one"])
        lines += ["", f"## {name.capitalize()}, batch {batch}", ""]
        lines += ["| run | ms a step | speed-up |", "|---|---:|---:|"]
        for run, values in found["times"].items():
            if not values:
                continue
            median = statistics.median(values)
            base = statistics.median(found["times"]["jax one"]) if "jax" in run else one
            lines.append(
                f"| {_RUNS[run]} | {median:.0f} ({min(values):.0f} to {max(values):.0f}) "
                f"| {base / median:.2f} |"
            )
        held = ", ".join(f"{size:.1f} MB" for size in found["held"].values())
        lines += ["", f"The two workers hold {held} of the weights."]
        if found["died"]:
            lines[-1] += (
                f" Keras on JAX ended after {len(found['times']['jax'])} turns: XLA's all-reduce "
                "between the threads of its devices was stuck, and it ends the process then."
            )
    lines += ["", "The speed-up of Keras on JAX is over Keras on JAX.", ""]
    return "\n".join(lines)


def main(_: list[str]) -> None:
    content = Path(FLAGS.output, "tensor_parallel.json")
    results: dict[str, Any] = json.loads(content.read_text()) if content.exists() else {}
    results = {"cases": {}, **results, "machine": describe()}
    results |= {"rounds": FLAGS.rounds, "steps": FLAGS.steps}
    for case in FLAGS.cases:
        name, _, batch = case.partition(":")
        results["cases"][case] = measure(name, int(batch))
        content.write_text(json.dumps(results, indent=1) + "\n")
        content.with_suffix(".md").write_text(render(results))
    print(render(results))


if __name__ == "__main__":
    flags.DEFINE_list("cases", list(CASES), "MODEL:BATCH, one or several.")
    flags.DEFINE_string("output", str(pipeline.RESULTS), "The folder for the results.")
    flags.DEFINE_integer("rounds", 7, "Turns of each case.", lower_bound=1)
    flags.DEFINE_integer("steps", 6, "Steps of a turn.", lower_bound=1)
    flags.DEFINE_bool("jax", True, "Keras on JAX, too.")
    flags.DEFINE_bool("show", False, "Show what the processes print.")
    app.run(main)
