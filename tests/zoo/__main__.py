"""Prints what every program of the zoo does on replicas, beside plain Keras.

    python -m tests.zoo [NAME ...]

A row is a program, or those that are named; a cell says equal, refused, failed or wrong, and the
largest difference: relative in logs, histories and outputs, absolute in weights. The exit code is
1 where a verdict is not the expected one; the reasons follow the table.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.training.devices import cut_the_cpu

if TYPE_CHECKING:
    from tests.zoo.verdicts import Verdict

ROOT = Path(__file__).parents[2]
WORKERS = 2
REPLICAS = (2, 3)
ON = (*(f"mirrored x{n}" for n in REPLICAS), f"{WORKERS} workers")


def started(folder: Path, names: Sequence[str]) -> subprocess.Popen[str]:
    """Starts the job of real workers, which writes what it finds into the folder."""
    job = [Path(__file__).with_name("job.py"), folder, *names]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "tfdist", "run", "--workers", str(WORKERS), *map(str, job)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows(names: Sequence[str]) -> Iterator[tuple[str, list[Verdict]]]:
    """The verdicts on each program, in the order of `ON`."""
    from tests.training import comparing
    from tests.zoo import verdicts
    from tests.zoo.programs import PROGRAMS

    plain, on_cpus = {}, {}
    with tempfile.TemporaryDirectory() as place, started(folder := Path(place), names) as job:
        try:
            for name in names:
                program = PROGRAMS[name]
                plain[name] = comparing.in_plain_keras(program.make, program.use)
                on_cpus[name] = [verdicts.on_replicas(program, count) for count in REPLICAS]
            output, _ = job.communicate(timeout=600)
        finally:
            job.terminate()  # the launcher ends its workers
        if job.returncode:
            raise SystemExit(output)
        files = [folder / f"found-{worker}.pickle" for worker in range(WORKERS)]
        on_workers = [pickle.loads(file.read_bytes()) for file in files]
    for name in names:
        each = [[found] for found in on_cpus[name]] + [[worker[name] for worker in on_workers]]
        yield name, [verdicts.judged(plain[name], found) for found in each]


def kind(verdicts: Sequence[Verdict]) -> str:
    """What a program is counted as."""
    for word in ("equal", "refused"):
        if all(verdict.found.startswith(word) for verdict in verdicts):
            return word
    return "wrong"


def main(names: Sequence[str]) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    cut_the_cpu()
    from tests.zoo.programs import PROGRAMS

    began = time.monotonic()
    unexpected: list[str] = []
    kinds: list[str] = []
    largest = 0.0
    lines = [f"| program | {' | '.join(ON)} |", "|---|" + "---|" * len(ON)]
    for name, verdicts in rows(names or list(PROGRAMS)):
        lines.append(f"| {name} | {' | '.join(map(str, verdicts))} |")
        kinds.append(kind(verdicts))
        for on, verdict in zip(ON, verdicts, strict=True):
            largest = max(largest, verdict.largest or 0.0)
            if not verdict.found.startswith(PROGRAMS[name].verdict):
                unexpected.append(f"{name}, {on}: {verdict}\n{verdict.trace}")
    counted = ", ".join(f"{kinds.count(word)} {word}" for word in ("equal", "refused", "wrong"))
    lines.append(f"\n{len(kinds)} programs: {counted}; largest difference {largest:.0e}")
    print("\n".join([*lines, *unexpected]))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
