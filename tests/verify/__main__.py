"""Verifies all programs with a seeded fault, and all sound ones; prints the page of figures.

    python -m tests.verify [--folder DIR] [--write] [NAME ...]

All run one after the other in the tasks of one job. What is in the folder already is not run again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.machine import describe
from tests.verify.verified import EXAMPLES, SOUND, SOUND_KNOWN, asked_of, is_found, verify_all
from tfdist.diagnose.verify.verdict import EQUAL, Verdict

PAGE = Path(__file__).parents[2] / "docs" / "figures" / "verify.md"
HEAD = """# What verify finds

Each program was run by `tfdist verify` on two workers; they are in `tests/verify`, `tests/zoo` and
`tfdist.examples`: `python -m tests.verify --write`.

{machine}
"""


def page(faults: Mapping[str, Verdict], sound: Mapping[str, Verdict]) -> str:
    """Returns the page of these verdicts."""
    from tests.verify.seeded_fault import FAULTS

    machine = describe()
    versions = machine["versions"]
    text = HEAD.format(
        machine=f"{machine['cores']} cores of an {machine['processor']}, "
        f"{machine['memory_gb']} GB, TensorFlow {versions['tensorflow']}, Keras "
        f"{versions['keras']}; other work went on beside it, so that the seconds say little."
    )
    found = sum(is_found(name, verdict) for name, verdict in faults.items())
    alarms = [name for name, verdict in sound.items() if verdict.found != EQUAL]
    text += (
        f"\n## Seeded faults: {found} of {len(faults)} found, with the right cause\n\n"
        "| program | the fault | first difference | cause | runs | seconds |\n"
        "|---|---|---|---|---|---|\n"
    )
    for name, verdict in faults.items():
        first = verdict.first
        where = "" if first is None else f"step {first.step}, {first.stage}"
        where += "" if first is None or first.name == first.stage else f": {first.name}"
        kinds = ", ".join(cause.kind for cause in verdict.causes) or "not found"
        mark = "" if is_found(name, verdict) else " (wrong)"
        text += (
            f"| {name} | {FAULTS[name].about.replace('|', '/')} | {where} | {kinds}{mark} "
            f"| {verdict.runs} | {verdict.seconds:.0f} |\n"
        )
    text += (
        f"\n## Sound programs: {len(alarms)} alarms on {len(sound)}\n\n"
        "| program | verdict | the largest difference, of all steps | runs | seconds |\n"
        "|---|---|---|---|---|\n"
    )
    for name, verdict in sound.items():
        largest = verdict.largest
        size = "" if largest is None else f"{largest.size:.0e}, {largest.stage} {largest.name}"
        text += f"| {name} | {verdict.found} | {size} | {verdict.runs} | {verdict.seconds:.0f} |\n"
    return text


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    from tests.verify.seeded_fault import FAULTS

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        names = options.names or [*FAULTS, *SOUND, *EXAMPLES, *SOUND_KNOWN]
        verdicts = verify_all(asked_of(names), folder, say=print)
    faults = {name: one for name, one in verdicts.items() if name in FAULTS}
    sound = {name: one for name, one in verdicts.items() if name not in FAULTS}
    text = page(faults, sound)
    print(text)
    if options.write:
        PAGE.write_text(text)
    good = all(is_found(*one) for one in faults.items())
    return 0 if good and all(one.found == EQUAL for one in sound.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
