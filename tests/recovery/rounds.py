"""Disturbs jobs of every family with `tfdist chaos`, keeps what became of each round, and counts.

python -m tests.recovery.rounds "2 workers" --seed 1 --rounds 8    # adds to the results
python -m tests.recovery.rounds --page                             # writes the page anew
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tests.conftest import ROOT
from tfdist.diagnose.fault_plan import MOMENTS

SCRIPT = Path("tests/diagnose/exact_and_counted.py")
RESULTS = ROOT / "tests" / "figures" / "results" / "chaos.json"
PAGE = ROOT / "docs" / "figures" / "chaos.md"
LIMIT = 90
"""Seconds that one run of a job may take before it counts as hung."""

_ALONE = ("--stall_timeout", "10", "--rendezvous_timeout", "40")
_TOGETHER = (*_ALONE[:2], "--rendezvous_timeout", "25", "--max_restarts", "3")


_FOUND = """\
What the rounds have found, and what is mended since:

- A SIGTERM between the strategy of several workers and the first `fit` did nothing, as TensorFlow
  catches it: the task ends by it now, as everywhere else.
- A metric whose `result` is its variable itself was 0 under parameter servers, disturbed or not.
- A chief that was stopped before it had met anybody was waited for until the rendezvous timeout:
  its launcher names it now, and ends it after the stall timeout.
- Where a worker of parameter servers was lost in its steps, an update that it had sent could be
  made twice (the optimizer had counted 49 for 48 in one round, which is not as it should), while
  every example was counted once in the metrics. Updates carry the number of their step now, and a
  server makes each once.

One round is not counted, as the fault was the test job's own: ended after its `fit` had ended
well, it failed when it was started again, over a history that was empty."""


@dataclass(frozen=True)
class Family:
    """Jobs of one kind.

    Attributes:
        kind: of the strategy.
        chaos: options of `tfdist chaos`.
        run: options of `tfdist run`.
    """

    kind: str
    chaos: tuple[str, ...]
    run: tuple[str, ...]


_SYNC, _PS, _PIPE = "multi_worker_mirrored", "parameter_server", "pipeline"
_ON_3, _ON_2 = ("--hosts", "3"), ("--hosts", "2")
FAMILIES = {
    "2 workers": Family(_SYNC, (), ("--workers", "2", *_ALONE)),
    "3 workers, restarts": Family(_SYNC, (), ("--workers", "3", *_ALONE, "--max_restarts", "3")),
    "1 worker, 1 ps": Family(_PS, ("--counts",), ("--workers", "1", "--ps", "1", *_ALONE)),
    "2 workers, 2 ps": Family(_PS, ("--counts",), ("--workers", "2", "--ps", "2", *_ALONE)),
    "pipeline of 2": Family(_PIPE, (), ("--chief", "--workers", "1", *_ALONE)),
    "3 workers on 3 hosts": Family(_SYNC, _ON_3, ("--workers", "3", *_TOGETHER)),
    "1 worker, 1 ps on 3 hosts": Family(
        _PS, (*_ON_3, "--counts"), ("--workers", "1", "--ps", "1", *_TOGETHER)
    ),
    "pipeline of 2 on 2 hosts": Family(_PIPE, _ON_2, ("--chief", "--workers", "1", *_TOGETHER)),
}


def command(name: str, seed: int | str, rounds: int | str, faults: str = "") -> list[str]:
    """The command line of some rounds, without Python itself."""
    family = FAMILIES[name]
    words = ["--rounds", str(rounds), "--seed", str(seed), "--limit", str(LIMIT)]
    words += ["--faults", faults] if faults else []
    run = ["run", *family.run, str(SCRIPT), family.kind]
    return ["chaos", *family.chaos, *words, "--", *run]


def disturb(name: str, seed: int, rounds: int, faults: str, folder: str) -> Iterator[list[str]]:
    """Runs some rounds; gives the cells of their lines, one by one."""
    words = command(name, seed, rounds, faults)
    with subprocess.Popen(
        [sys.executable, "-m", "tfdist", words[0], "--folder", folder, *words[1:]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as ran:
        assert ran.stdout is not None
        for line in ran.stdout:
            print(line, end="", flush=True)
            if re.match(r"\| \d", line):
                yield [cell.strip() for cell in line.split("|")[1:-1]]


def keep(name: str, cells: list[str]) -> None:
    """Adds a round to the committed results; several families may be at work."""
    RESULTS.touch()
    with RESULTS.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        kept = json.loads(file.read() or '{"rounds": {}}')
        kept["machine"] = machine.describe()
        kept["rounds"].setdefault(name, []).append(cells)
        file.seek(0)
        file.truncate()
        file.write(json.dumps(kept, indent=1) + "\n")


def page(kept: dict[str, Any]) -> str:
    """The page of the documentation."""
    here = kept["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    rows = [[name, *cells] for name, found in kept["rounds"].items() for cells in found]
    kinds = sorted({_kind(row) for row in rows})
    intro = (
        f"{len(rows)} rounds of [`tfdist chaos`](../checkpoints.md#prove-it): a job is run, "
        "disturbed by one fault, started again until it ends well, and compared with an "
        "undisturbed run: weights, optimizer and history, to the last bit; under parameter "
        "servers, that each example of each epoch was counted once. The job "
        f"(`{SCRIPT}`) takes 48 steps in 3 epochs with a validation each, and saves every fourth "
        "step. With restarts, and on hosts, its launchers start all tasks again by themselves; "
        "else it is started again by hand. Hosts are network namespaces, each with a launcher of "
        "its own."
    )
    by = f"{here['cores']} cores ({here['processor']}), shared with others; {versions}"
    columns = [
        "rounds",
        "struck",
        "same bits",
        "as it should",
        "hung",
        "left over",
        "s, mean",
        "worst",
    ]
    names = [name for name in FAMILIES if name in kept["rounds"]]
    by_job = [_counted(name, [row for row in rows if row[0] == name]) for name in names]
    by_fault = [_counted(kind, [row for row in rows if _kind(row) == kind]) for kind in kinds]
    there = [one for one in MOMENTS if any(_moment(row) == one for row in rows)]
    by_phase = [_counted(one, [row for row in rows if _moment(row) == one]) for one in there]
    commands = [f"tfdist {' '.join(command(name, 'SEED', 'ROUNDS'))}" for name in names]
    told = (
        "As it should: the same bits; under parameter servers, the same counts. With one worker "
        "there weights and optimizer have the same bits, too, but the mean loss of an epoch may "
        "differ in its last digit, as totals are added up when they come. Seconds: from the fault "
        "to the end of the job, with what it had still to train."
    )
    missed = sum("(" in row[4] and not _overlaps(row[4]) for row in rows)
    of_phases = (
        "The phase that was drawn. A job goes on while the signal is on its way: "
        f"{missed} rounds struck when it was already in between, in callbacks or where workers "
        "meet, or in the next phase."
    )
    lines = [
        "# Chaos",
        intro,
        f"Measured by `python -m tests.recovery.rounds`, {by}.",
        "## By job",
        _table(["job", *columns], [*by_job, _counted("all", rows)]),
        told,
        "## By fault",
        _table(["fault", *columns], by_fault),
        "## By phase",
        of_phases,
        _table(["phase", *columns], by_phase),
        "## Found",
        _FOUND,
        "## Again",
        "The rounds are in `tests/figures/results/chaos.json`; hosts need root.",
        "\n".join(["```sh", *commands, "```"]),
    ]
    return "\n\n".join(lines) + "\n"


def _kind(row: Sequence[str]) -> str:
    return row[2].partition(",")[0]


def _moment(row: Sequence[str]) -> str:
    """The phase that was drawn, of a cell as "tracing (in between)" or "mid-save: too late"."""
    return row[4].partition(" (")[0].partition(":")[0]


def _overlaps(cell: str) -> bool:
    """Whether a step was struck while a checkpoint was being written beside it."""
    return cell in ("mid-step (mid-save)", "last step (mid-save)")


def _counted(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    same = [row[7] == "same bits" for row in rows]
    counts = [row[7] == "same counts" and " ps" in row[0] for row in rows]
    seconds = [float(row[8]) for row in rows]
    left = sum(int(row[6].split()[-2]) for row in rows)
    return [
        title,
        str(len(rows)),
        str(sum(not row[4].endswith("too late") for row in rows)),
        str(sum(same)),
        str(sum(same) + sum(counts)),
        str(sum("hung" in row[6] for row in rows)),
        str(left),
        f"{sum(seconds) / len(seconds):.0f}",
        f"{max(seconds):.0f}",
    ]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, ruler, *rows))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("family", nargs="?", choices=FAMILIES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--faults", default="")
    parser.add_argument("--folder", help="keep the runs here")
    parser.add_argument("--page", action="store_true", help="write the page of the documentation")
    options = parser.parse_args()
    if options.family:
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.folder or scratch
            family, faults = options.family, options.faults
            for cells in disturb(family, options.seed, options.rounds, faults, folder):
                keep(family, cells)
    if options.page:
        PAGE.write_text(page(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
