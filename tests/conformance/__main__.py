"""Keras' own tests with every model plugged: `scripts/conformance`.

They are fetched by pip into `build/conformance/` and run three times: in plain Keras, and, those
that pass there and use a model, on one device and mirrored over two logical CPUs. Exit code 1: a
test fails that `differences.json` does not explain.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conformance import differences, source
from tests.conformance.report import table, told
from tests.conformance.results import Result
from tests.conformance.running import ROOT, Run
from tests.conformance.verdict import comparable, judge

STRATEGIES = ("one_device", "mirrored")

FILES = (
    "callbacks/*",
    "distillation/*",
    "layers/layer_test.py",
    "metrics/*",
    "models/*",
    "optimizers/*",
    "saving/*",
    "trainers/*",
)
"""Where Keras' tests train models; most layers' do so too, a step each: name them, "layers/*"."""

CALLS = (".fit(", ".evaluate(", ".predict(", "_on_batch(")
"""A file without one of these is left out."""


def main() -> int:
    """Fetches, runs, compares and prints."""
    arguments = _arguments()
    scratch = ROOT / "build" / "conformance"
    version = importlib.metadata.version("keras")
    tests, whose = source.fetch(version, scratch)
    files = _files(tests, arguments.files or FILES)
    listed = differences.read(differences.LIST, STRATEGIES)
    began = time.monotonic()

    def run(strategy: str | None, only: Sequence[str] | None = None) -> dict[str, Result]:
        return Run(tests, files, scratch, strategy, arguments.timeout).results(only)

    _say(f"Keras {version}, the tests of {whose}'s source distribution: {len(files)} files")
    plain = run(None)
    counted = comparable(plain)
    passing = sum(result.outcome == "passed" for result in plain.values())
    _say(f"{len(plain)} tests, {passing} pass in plain Keras, {len(counted)} of these use a model")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(pool.map(lambda strategy: run(strategy, counted), arguments.on))
    verdicts = [
        judge(strategy, counted, each, listed, whole=not arguments.files)
        for strategy, each in zip(arguments.on, results, strict=True)
    ]
    _say(*told(verdicts), "", *table(verdicts))
    _say("", f"{time.monotonic() - began:.0f} s; every test's output is in {scratch}/*.log")
    return int(any(verdict.unexplained for verdict in verdicts))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("files", nargs="*", help='patterns of files: "callbacks/*"')
    parser.add_argument("--on", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--jobs", type=int, default=2, help="strategies at the same time")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one test")
    return parser.parse_args()


def _files(tests: Path, patterns: Sequence[str]) -> list[str]:
    """The files that match a pattern and train, evaluate or predict somewhere."""
    there = sorted(str(path.relative_to(tests)) for path in tests.rglob("*_test.py"))
    return [
        file
        for file in there
        if any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns)
        and any(call in (tests / file).read_text() for call in CALLS)
    ]


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
