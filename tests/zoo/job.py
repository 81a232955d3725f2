"""Runs every program of the zoo, or those that are named, on the workers of this job.

tfdist run --workers 2 job.py FOLDER [NAME ...]
"""

from __future__ import annotations

import functools
import pickle
import sys
import time
from pathlib import Path

import tfdist

folder = Path(sys.argv[1])
strategy = tfdist.strategy(rendezvous_timeout=60)

from tests.training import comparing  # noqa: E402
from tests.zoo import verdicts  # noqa: E402
from tests.zoo.programs import PROGRAMS  # noqa: E402

cluster = tfdist.Cluster.from_environment()
assert cluster is not None
assert cluster.task is not None
found = {}
for name in sys.argv[2:] or PROGRAMS:
    program = PROGRAMS[name]
    began = time.monotonic()
    found[name] = verdicts.outcome_of(
        functools.partial(comparing.on_strategy, strategy, program.make, program.use)
    )
    print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
(folder / f"found-{cluster.task.index}.pickle").write_bytes(pickle.dumps(found))
