"""Embeddings on parameter servers: tfdist's `fit` against tf_keras' with its partitioner.

    python -m tests.benchmarks.embedding [--rounds 5] [--steps 200]

1,000,000 x 16, 26 ids an example, batches of 512, Dense(64), Adagrad, 2 workers and 2 ps with one
thread each. All ways are running at the same time and take turns; the table gives the medians over
the rounds. Then bytes on the wire for tables of three sizes.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from pathlib import Path

from absl import app, flags

from tests.benchmarks.machine import describe
from tests.benchmarks.servers import BATCH, Case, Side

FLAGS = flags.FLAGS
RESULTS = Path(__file__).with_name("results")
CASES = {
    "tf_keras fit": Case("tf_keras"),
    "tf_keras fit, 20 steps an execution": Case("tf_keras", steps_per_execution=20),
    "tfdist fit": Case("tfdist"),
    "tfdist fit, workers read": Case("tfdist own"),
}
TABLES = (100_000, 1_000_000, 4_000_000)


def main(_: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        sides = {name: stack.enter_context(Side(case)) for name, case in CASES.items()}
        for side in sides.values():
            side.turn(FLAGS.steps)
        turns = {name: [] for name in sides}  # type: dict[str, list[dict[str, float]]]
        for number in range(FLAGS.rounds):
            for name, side in sorted(sides.items(), reverse=bool(number % 2)):
                turns[name].append(side.turn(FLAGS.steps))
    machine = ", ".join(f"{name} {value}" for name, value in describe().items())
    lines = [
        f"Medians of {FLAGS.rounds} rounds of {FLAGS.steps} steps. ({machine})",
        "",
        "| way | examples/s | lowest to highest | over tf_keras fit | KB on the wire a step |",
        "|---|---|---|---|---|",
    ]
    speeds = {
        name: [FLAGS.steps * BATCH / turn["seconds"] for turn in own] for name, own in turns.items()
    }
    base = statistics.median(speeds["tf_keras fit"])
    for name, own in speeds.items():
        wire = statistics.median(turn["bytes"] for turn in turns[name]) / FLAGS.steps / 1e3
        lines.append(
            f"| {name} | {statistics.median(own):,.0f} | {min(own):,.0f} to {max(own):,.0f} "
            f"| {statistics.median(own) / base:.2f}x | {wire:,.0f} |"
        )
    lines += ["", "| rows of the table | KB on the wire a step | examples/s |", "|---|---|---|"]
    growth = {}
    for rows in TABLES:
        with Side(Case("tfdist", rows=rows)) as side:
            side.turn(FLAGS.steps)
            turn = side.turn(FLAGS.steps)
        growth[rows] = turn
        lines.append(
            f"| {rows:,} | {turn['bytes'] / FLAGS.steps / 1e3:,.0f} "
            f"| {FLAGS.steps * BATCH / turn['seconds']:,.0f} |"
        )
    print("\n".join(lines))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "embedding.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "embedding.json").write_text(
        json.dumps({"turns": turns, "tables": growth, "machine": describe()}, indent=1) + "\n"
    )


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 5, "Turns of each way.", lower_bound=1)
    flags.DEFINE_integer("steps", 200, "Steps of a turn.", lower_bound=1)
    app.run(main)
