"""Parameter servers in step, with a slow worker or slow parts, by how many workers are spared.

    python -m tests.benchmarks.backup_workers [--rounds 3]

8 workers and 1 ps; a worker sleeps for each row, so that two cores do for eight workers.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from absl import app, flags

from tests.benchmarks.machine import describe
from tests.benchmarks.own_job import run_with_servers

FLAGS = flags.FLAGS
RESULTS = Path(__file__).with_name("results")
WORKERS = 8
_TIMEOUT = 1800.0
_WAYS = {"None": "all are waited for", "0": "`0`", "1": "`1`", "2": "`2`"}
_SLOW = {
    "nobody": "nobody is slow",
    "worker": "one worker four times slower",
    "parts": "a tenth of all parts ten times slower",
}


def _table(measured: dict[str, Any], machine: str) -> list[str]:
    turns = measured["turns"]
    rounds = len(next(iter(turns.values())))
    lines = [
        "# Backup workers",
        "",
        (
            f"Seconds of an update of 56 rows on {WORKERS} workers that sleep 0.1 s for a row, by "
            f"`backup_workers`: means of ten updates, medians of {rounds} turns, in brackets the "
            "lowest and the highest. Measured by `python -m tests.benchmarks.backup_workers`. "
            f"({machine})"
        ),
        "",
        f"| `backup_workers` | {' | '.join(_SLOW.values())} |",
        "|---|" + "---:|" * len(_SLOW),
    ]
    for spare, name in _WAYS.items():
        cells = []
        for slow in _SLOW:
            own = turns[f"{slow}, {spare}"]
            cells.append(f"{statistics.median(own):.2f} ({min(own):.2f}-{max(own):.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, "", "With one and two backups the rows of a batch are cut in 7 and 6 parts."]


def main(_: list[str]) -> None:
    measured = run_with_servers("backup_workers_job", WORKERS, _TIMEOUT, FLAGS.rounds)
    measured["machine"] = describe()
    machine = ", ".join(f"{name} {value}" for name, value in measured["machine"].items())
    lines = _table(measured, machine)
    print("\n".join(lines))
    (RESULTS / "backup_workers.json").write_text(json.dumps(measured, indent=1) + "\n")
    (RESULTS / "backup_workers.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 3, "Turns of each case.", lower_bound=1)
    app.run(main)
