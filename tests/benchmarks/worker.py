"""One process of a job that is measured: `python -m tests.benchmarks.worker ASSIGNMENT`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time


def main() -> None:
    began = time.time()  # before anything large is imported
    from tests.benchmarks.turns import Assignment, Turns

    assignment = Assignment.from_json(sys.argv[1])
    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    turns = Turns(assignment, worker, began)
    module = importlib.import_module(f"tests.benchmarks.{assignment.variant.module}")
    turns.stage("import")
    module.run(assignment, turns)
    turns.done()


if __name__ == "__main__":
    main()
