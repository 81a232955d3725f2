"""L-BFGS on parameter servers beside SciPy and SGD, and with a worker four times slower.

    python -m tests.benchmarks.lbfgs [--rounds 3]

`learn`: the digits, 2 workers and 1 ps: passes over the data and seconds until the loss is low.
SciPy's L-BFGS-B has the whole data in one process. `stragglers`: 8 workers and 1 ps; each row takes
a worker a fixed time, so that two cores do for eight workers. `reading`: files that the chief
reads, or the workers.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from absl import app, flags

from tests.benchmarks.machine import describe
from tests.benchmarks.own_job import run_with_servers

FLAGS = flags.FLAGS
RESULTS = Path(__file__).with_name("results")
LEVELS = (0.1, 0.03, 0.01)
_TIMEOUT = 1200.0


def scipy_alone() -> dict[str, Any]:
    """SciPy's L-BFGS-B on the same network, in this process."""
    from scipy import optimize

    from tests.benchmarks.lbfgs_models import ITERATIONS, X, Y, digits, numpy_loss

    model = digits()
    function, start = numpy_loss(model)
    function(start)  # traces
    seen: list[list[float]] = []
    passes = 0
    began = time.monotonic()

    def counted(flat: Any) -> Any:
        nonlocal passes
        passes += 1
        return function(flat)

    def note(intermediate_result: optimize.OptimizeResult) -> None:
        nonlocal passes
        seen.append([float(intermediate_result.fun), passes, time.monotonic() - began])
        passes = 0

    options = {"maxcor": 10, "maxiter": ITERATIONS, "ftol": 0.0, "gtol": 0.0}
    found = optimize.minimize(
        counted, start, jac=True, method="L-BFGS-B", callback=note, options=options
    )
    function(found.x)
    loss, right = model.evaluate(X, Y, verbose=0)
    return {"seen": seen, "accuracy": [float(loss), float(right)]}


def _row(name: str, found: dict[str, Any]) -> str:
    """Passes and seconds until each of the levels, and what it ends with."""
    cells = []
    for level in LEVELS:
        passes = 0.0
        cell = "not reached"
        for loss, more, seconds in found["seen"]:
            passes += more
            if loss <= level:
                cell = f"{passes:.0f}, {seconds:.1f} s"
                break
        cells.append(cell)
    total = sum(more for _, more, _ in found["seen"])
    loss, accuracy = found["accuracy"]
    return f"| {name} | {' | '.join(cells)} | {loss:.5f} after {total:.0f} | {accuracy:.4f} |"


def _tables(
    learnt: dict[str, Any] | None, slowed: dict[str, Any] | None, machine: str
) -> list[str]:
    lines = []
    if learnt is not None:
        what = (
            "Digits (1,797 rows, Dense 32 and 10), portions and batches of 64 rows, 2 workers and "
            "1 ps with one thread each; passes over the data, and seconds, until the loss is as "
            f"low. ({machine})"
        )
        head = (
            f"| way | {' | '.join(f'loss {level:g}' for level in LEVELS)} | loss at the end, "
            "passes | accuracy on the same rows |"
        )
        lines += [
            what,
            "",
            head,
            "|---|" + "---|" * (len(LEVELS) + 2),
            *(_row(name, found) for name, found in learnt.items()),
            "",
        ]
    if slowed is not None:
        turns = slowed["turns"]
        equal = statistics.median(turns["equal"])
        what = (
            "8 workers, 128 portions of 0.5 s that a worker sleeps: seconds of an iteration of one "
            f"pass, medians of {len(turns['equal'])} turns. Without the slow worker's lost share "
            "(7.25 workers' work instead of 8) there would be 10.3 % more."
        )
        lines += [
            what,
            "",
            "| workers | seconds | lowest to highest | over equal | copies a pass |",
            "|---|---|---|---|---|",
        ]
        told = {"equal": "all equal", "slow": "one four times slower"}
        for name, own in turns.items():
            middle = statistics.median(own)
            copies = statistics.median(slowed["copies"][name]) / 3
            lines.append(
                f"| {told.get(name, 'one four times slower, no backup tasks')} | {middle:.2f} | "
                f"{min(own):.2f} to {max(own):.2f} | {100 * (middle / equal - 1):+.1f} % | "
                f"{copies:.1f} |"
            )
        same = "the same bits" if len(slowed["losses"]) == 1 else "NOT the same bits"
        lines += ["", f"The loss of all turns at their end had {same}."]
    return lines


def _read(found: dict[str, Any]) -> list[str]:
    what = (
        "2 workers and 1 ps, 48 files of 4 MB, one a portion, and Dense 1,024-16-1: seconds of a "
        f"pass, medians of {len(found['turns']['chief'])} turns."
    )
    told = {"chief": "the chief, by a dataset", "workers": "the workers, by `Portions`"}
    lines = [what, "", "| who reads | seconds | lowest to highest |", "|---|---|---|"]
    for name, own in found["turns"].items():
        middle = statistics.median(own)
        lines.append(f"| {told[name]} | {middle:.2f} | {min(own):.2f} to {max(own):.2f} |")
    same = "the same bits" if len(found["losses"]) == 1 else "NOT the same bits"
    return [*lines, "", f"The loss at the end of all turns had {same}."]


def main(_: list[str]) -> None:
    file = RESULTS / "lbfgs.json"
    raw: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if "learn" in FLAGS.parts:
        alone = scipy_alone()
        found = run_with_servers("lbfgs_job", 2, _TIMEOUT, "learn")
        raw["learnt"] = {
            "`LBFGS().minimize`": found.pop("L-BFGS"),
            "SciPy, one process": alone,
            **{f"`fit`, {name}, momentum 0.9": one for name, one in found.items()},
        }
    if "reading" in FLAGS.parts:
        raw["reading"] = run_with_servers("lbfgs_job", 2, _TIMEOUT, "reading", FLAGS.rounds)
    if "stragglers" in FLAGS.parts:
        raw["slowed"] = run_with_servers("lbfgs_job", 8, _TIMEOUT, "stragglers", FLAGS.rounds)
    raw["machine"] = describe()
    machine = ", ".join(f"{name} {value}" for name, value in raw["machine"].items())
    lines = _tables(raw.get("learnt"), raw.get("slowed"), machine)
    if "reading" in raw:
        lines += ["", *_read(raw["reading"])]
    print("\n".join(lines))
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(raw, indent=1) + "\n")
    (RESULTS / "lbfgs.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 3, "Turns of each case.", lower_bound=1)
    flags.DEFINE_list("parts", ["learn", "stragglers", "reading"], "What to measure.")
    app.run(main)
