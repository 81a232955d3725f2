"""An elastic job of 1, then 4, then 2, then 3 workers within one run, beside one process.

    python -m tests.figures.elastic                              two minutes on two cores

Launchers come and two of them are killed; each step notes the examples that each worker saw.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.elastic.changing_sizes import SCRIPT, one_four_two_three
from tests.elastic.seen import examples_of_steps, steps_of_chiefs, workers_of_steps


def main() -> None:
    """Runs both and prints what differs."""
    with tempfile.TemporaryDirectory() as name:
        one, many = Path(name, "one"), Path(name, "many")
        one.mkdir()
        many.mkdir()
        run = [sys.executable, "-m", "tfdist", "run", "--log_dir", str(one / "logs")]
        subprocess.run([*run, str(SCRIPT), str(one)], check=True, capture_output=True)
        said = one_four_two_three(many)
        print(re.sub(r"(?m)^(?!\[tfdist\]).*\n|; logs in .*", "", said))
        compare(one, many)


def compare(one: Path, many: Path) -> None:
    """Prints what the job has seen and come to, beside one process."""
    wanted, found = (json.loads((folder / "result.json").read_text()) for folder in (one, many))
    workers = workers_of_steps(many)
    spans = [
        f"{len(list(steps))} with {count}"
        for count, steps in itertools.groupby(sorted(workers), workers.__getitem__)
    ]
    steps = steps_of_chiefs(many)
    same = examples_of_steps(many) == examples_of_steps(one)
    print(f"steps that count: {', '.join(spans)} workers")
    print(f"steps taken twice: {len(steps) - len(set(steps))} of {len(set(steps))}")
    print(f"each step saw the examples of one process' step: {same}")
    for name, values in wanted["history"].items():
        print(f"{name}: largest relative difference {_apart(found['history'][name], values):.1e}")
    ends = [np.ravel(weight) for weight in found["values"]]
    other = [np.ravel(weight) for weight in wanted["values"]]
    apart = max(float(np.abs(a - b).max()) for a, b in zip(ends, other, strict=True))
    print(f"weights: largest difference {apart:.1e}")


def _apart(these: list[Any], those: list[Any]) -> float:
    return float(np.max(np.abs(np.subtract(these, those)) / np.abs(those)))


if __name__ == "__main__":
    main()
