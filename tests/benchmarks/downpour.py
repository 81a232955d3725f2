"""Downpour on parameter servers: how fewer messages change the speed, the traffic and the result.

    python -m tests.benchmarks.downpour [--rounds 5] [--steps 150]

The mlp (Dense 512, 512, 10) on the handwritten digits drawn on 28 by 28 pixels, batches of 64,
Adagrad on the servers, 2 workers and 2 ps with one thread each. Every case trains the same steps in
turns; then it is tested.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from pathlib import Path
from typing import Any

from absl import app, flags

from tests.benchmarks.machine import describe
from tests.benchmarks.servers import Case, Side

FLAGS = flags.FLAGS
RESULTS = Path(__file__).with_name("results")
EVERY = (1, 4, 16)
BATCH = 64


def main(_: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        sides = {
            every: stack.enter_context(
                Side(Case(model="mlp", options={"push_every": every, "fetch_every": every}))
            )
            for every in EVERY
        }
        turns: dict[int, list[dict[str, Any]]] = {every: [] for every in EVERY}
        for number in range(FLAGS.rounds + 1):  # the first is for warming up
            for every in EVERY if number % 2 else reversed(EVERY):
                turns[every].append(sides[every].turn(FLAGS.steps))
        tested = {every: side.evaluate() for every, side in sides.items()}
    steps = (FLAGS.rounds + 1) * FLAGS.steps
    machine = ", ".join(f"{name} {value}" for name, value in describe().items())
    rounds = f"Medians of {FLAGS.rounds} rounds of {FLAGS.steps} steps"
    lines = [
        f"{rounds}; test accuracy after {steps} steps. ({machine})",
        "",
        "| push, fetch every | examples/s | lowest to highest | KB on the wire a step | accuracy |",
        "|---|---|---|---|---|",
    ]
    for every in EVERY:
        own = turns[every][1:]
        speeds = [FLAGS.steps * BATCH / turn["seconds"] for turn in own]
        wire = statistics.median(turn["bytes"] for turn in own) / FLAGS.steps / 1e3
        lines.append(
            f"| {every} | {statistics.median(speeds):,.0f} | {min(speeds):,.0f} to "
            f"{max(speeds):,.0f} | {wire:,.0f} | {tested[every]['accuracy']:.3f} |"
        )
    print("\n".join(lines))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "downpour.md").write_text("\n".join(lines) + "\n")
    raw = {"turns": turns, "tested": tested, "machine": describe()}
    (RESULTS / "downpour.json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 5, "Turns of each case.", lower_bound=1)
    flags.DEFINE_integer("steps", 150, "Steps of a turn.", lower_bound=1)
    app.run(main)
