"""Prints what every program of the zoo does on replicas, beside plain Keras.

    python -m tests.zoo [NAME ...]

A row is a program; a cell says equal, refused or wrong, and the largest difference: relative in
logs, histories and outputs, absolute in weights. The exit code is 1 where a verdict is not the
expected one.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.training.devices import cut_the_cpu

ROOT = Path(__file__).parents[2]
WORKERS = 2
ON = ("mirrored x2", "mirrored x3", "2 workers")


def started(folder: Path, names: list[str]) -> subprocess.Popen[str]:
    """Starts the job of real workers."""
    command = [sys.executable, "-m", "tfdist", "run", "--workers", str(WORKERS)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [*command, str(Path(__file__).with_name("job.py")), str(folder), *names],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main(names: list[str]) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    cut_the_cpu()
    from tests.training import comparing
    from tests.zoo import verdicts
    from tests.zoo.programs import PROGRAMS

    began = time.monotonic()
    rows: dict[str, list[verdicts.Verdict]] = {}
    plain: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, started(folder := Path(name), names) as job:
        try:
            for program_name in names or PROGRAMS:
                program = PROGRAMS[program_name]
                plain[program_name] = comparing.in_plain_keras(program.make, program.use)
                rows[program_name] = [
                    verdicts.judged(plain[program_name], [verdicts.on_replicas(program, replicas)])
                    for replicas in (2, 3)
                ]
            output, _ = job.communicate(timeout=300)
        finally:
            job.terminate()  # the launcher ends its workers
        if job.returncode:
            sys.exit(output)
        found = [
            pickle.loads((folder / f"found-{worker}.pickle").read_bytes())
            for worker in range(WORKERS)
        ]
    unexpected = 0
    print(f"| program | {' | '.join(ON)} |\n|---|{'---|' * len(ON)}")
    for program_name, row in rows.items():
        row.append(verdicts.judged(plain[program_name], [worker[program_name] for worker in found]))
        expected = PROGRAMS[program_name].verdict
        unexpected += any(not verdict.found.startswith(expected) for verdict in row)
        print(f"| {program_name} | {' | '.join(map(str, row))} |")
        if "-v" in os.environ.get("TFDIST_ZOO", ""):
            print(*[verdict.trace for verdict in row if verdict.trace], sep="\n")
    kinds = [
        "equal"
        if all(v.found == "equal" for v in row)
        else "refused"
        if all(v.found.startswith("refused") for v in row)
        else "wrong"
        for row in rows.values()
    ]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("equal", "refused", "wrong"))
    differences = [v.largest for row in rows.values() for v in row if v.largest is not None]
    print(f"\n{len(rows)} programs: {counted}; largest difference {max(differences):.0e}; ", end="")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
