"""Makes a job hang in every way, and prints who was named, how soon, and how it ended.

python -m tests.recovery.hangs                      # all, about twenty minutes
python -m tests.recovery.hangs --only generator,callback
python -m tests.recovery.hangs --keep               # into tests/figures/results, and the page
python -m tests.recovery.hangs --cut --keep         # hosts that are cut off; needs root
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tests.conftest import ROOT
from tests.recovery import cuts
from tests.recovery.faults import HANGS, Hang
from tests.recovery.watched_command import DEADLINE, WatchedCommand

SCRIPT = Path(__file__).with_name("hanging.py")
RESULTS = ROOT / "tests" / "figures" / "results" / "hangs.json"
PAGE = ROOT / "docs" / "figures" / "hangs.md"


@dataclass(frozen=True)
class Found:
    """What a job said of its hang.

    Attributes:
        named: seconds until the right task was named; None where it never was.
        sentence: in which.
        ended: seconds from the hang to the end of the launcher.
        code: its exit code.
        output: all that was written.
        stacks: the tasks that have left their Python stacks, as "worker-1".
    """

    named: float | None
    sentence: str
    ended: float
    code: int
    output: str
    stacks: tuple[str, ...]


def run(hang: Hang) -> Found:
    """Runs one job to its end."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        arguments = [SCRIPT, folder, hang.kind, hang.place, hang.task, hang.seconds]
        options = ["--stall_timeout", hang.stall_timeout, *hang.options]
        command = [sys.executable, "-m", "tfdist", "run", *options, *arguments]
        job = WatchedCommand(command, Path(folder))
        stack.callback(job.kill)
        if hang.signal:
            job.find(r"epoch 3\b", DEADLINE)
            pid = int(Path(folder, f"{hang.task}.pid").read_text())
            began = time.monotonic()
            os.kill(pid, signal.Signals[hang.signal])
            if hang.seconds_stopped:
                time.sleep(hang.seconds_stopped)
                os.kill(pid, signal.SIGCONT)
        else:
            began = job.find(" hangs now", DEADLINE)
        code, ended = job.end()
        said = [(at, line) for at, line in job.lines if re.search(hang.says, line) and at >= began]
        at, line = said[0] if said else (None, "")
        sentence = re.sub(r"^.*?tfdist\] |^\[[\w:]+\] (\w+\.)*", "", line)
        sentence = re.sub(r" \(Python stacks: .*\)$", "", sentence)
        files = sorted(Path(folder, "tfdist_logs").glob("*/*.stacks.txt"))
        stacks = tuple(file.name.partition(".")[0] for file in files)
        named = None if at is None else at - began
        return Found(named, sentence, ended - began, code, job.output, stacks)


def hang_row(hang: Hang, found: Found) -> list[str]:
    """A line of the first table."""
    how = "went on, and ended well" if found.code == 0 else f"ended ({found.code})"
    return [hang.name, _seconds(found.named), found.sentence, f"{how} after {found.ended:.0f} s"]


def cut_rows(cut: cuts.Cut, sides: Mapping[str, cuts.Side]) -> list[list[str]]:
    """Lines of the second table, one for each task."""
    how = "for good" if cut.seconds is None else f"for {cut.seconds:.0f} s"
    return [
        [
            f"{cut.task} of {cut.kind} {how}",
            name,
            _seconds(side.named) if side.sentence else "",  # it has lost nobody
            side.sentence,
            f"ended ({side.code}) after {side.ended:.0f} s",
        ]
        for name, side in sides.items()
    ]


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"


def page(kept: Mapping[str, Any]) -> str:
    """The page of the documentation."""
    here = kept["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    by = f"{here['cores']} cores ({here['processor']}); {versions}"
    hung = [kept["hangs"][hang.name] for hang in HANGS if hang.name in kept["hangs"]]
    lost = [row for cut in cuts.CUTS for row in kept["cuts"].get(str(cut), [])]
    intro = (
        "Each is a job of real processes that hangs as the first column says: seconds until the "
        "right task was named, by whom and how, and what became of the job. Stall timeout 15 s "
        "(3 s where a chief is stopped); what sleeps by itself does so for 15 s (a library: 24 s). "
        f"Measured by `python -m tests.recovery.hangs --keep`, {by}."
    )
    intro_to_cuts = (
        "Three hosts (network namespaces on a switch), a task and a launcher on each; the cable of "
        "one is pulled. Measured by `python -m tests.recovery.hangs --cut --keep`, as root, on the "
        "same machine."
    )
    titles = ["what hung", "named after", "the sentence", "what became of the job"]
    titles_of_cuts = ["what is cut off", "side", "named after", "the sentence", "its end"]
    parts = [
        "# Hangs",
        intro,
        "\n".join(_table(titles, hung)),
        "## Hosts that are cut off",
        intro_to_cuts,
        "\n".join(_table(titles_of_cuts, lost)),
    ]
    return "\n\n".join(parts) + "\n"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows)]


def keep(group: str, name: str, value: Any) -> None:
    """Adds to the committed results, and writes the page anew."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"hangs": {}, "cuts": {}}
    kept["machine"] = machine.describe()
    kept[group][name] = value
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(page(kept))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="hangs with one of these words, by commas")
    parser.add_argument("--show", action="store_true", help="what each job has written, too")
    parser.add_argument("--keep", action="store_true", help="in the committed results")
    parser.add_argument("--cut", action="store_true", help="cut hosts off instead; needs root")
    options = parser.parse_args(arguments)
    words = [word for word in options.only.split(",") if word]
    for hang in () if options.cut else HANGS:
        if not words or any(word in hang.name for word in words):
            found = run(hang)
            print(*_table(hang_row(hang, found), [])[:1], sep="\n", flush=True)
            if options.show:
                print(found.output, flush=True)
            if options.keep:
                keep("hangs", hang.name, hang_row(hang, found))
    for cut in cuts.CUTS if options.cut else ():
        if not words or any(word in str(cut) for word in words):
            sides = cuts.run(cut)
            for row in cut_rows(cut, sides):
                print(*_table(row, [])[:1], sep="\n", flush=True)
            if options.show:
                print("\n".join(side.output for side in sides.values()), flush=True)
            if options.keep:
                keep("cuts", str(cut), cut_rows(cut, sides))


if __name__ == "__main__":
    main()
