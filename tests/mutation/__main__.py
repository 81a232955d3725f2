"""Makes every change to the pure rooms, one at a time, and lists those that no test notices.

    scripts/mutate [cluster] [schedules] [drawing] [einsum] [layout] [sharding] [--every N]

Each runs the room's own tests in a forked process, on a copy of the sources; hypothesis tries the
same examples each time. What survives is explained in tests/mutation.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.conftest import ROOT
from tests.mutation.changes import Change, changes_of
from tests.mutation.rooms import ROOMS, Room

CPU_SECONDS = 20
"""A change after which the tests run for ever is noticed when they have used so much."""

MORE_BYTES = 1 << 30
"""A change after which a schedule never ends is noticed when it has filled so much memory."""

_OPTIONS = (
    *("-x", "-q", "--tb=no", "--assert=plain"),
    *("-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:xdist"),
)


def main() -> int:
    """Runs the changes of the rooms that were named, or of all; returns 1 if one survives."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("rooms", nargs="*", choices=[*ROOMS, []], help="by default all")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth change")
    arguments = parser.parse_args()
    hypothesis.settings.register_profile(
        "mutation", derandomize=True, database=None, phases=[hypothesis.Phase.generate]
    )
    hypothesis.settings.load_profile("mutation")
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    unexplained = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("tfdist", "tests", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy)
        for name in arguments.rooms or ROOMS:
            unexplained += _try_all(name, ROOMS[name], arguments.every)
    return 1 if unexplained else 0


def _try_all(name: str, room: Room, every: int) -> int:
    """Makes the changes of a room; returns how many survive without an explanation."""
    for module in room.preload:
        importlib.import_module(module)
    if _is_noticed(room, Path()):
        raise SystemExit(f"{name}: its tests fail as it stands")
    began = time.monotonic()
    changes = [change for file in room.files() for change in changes_of(file)][::every]
    survivors = []
    for number, change in enumerate(changes, 1):
        with _made(change):
            if not _is_noticed(room, change.path):
                survivors.append(change)
                print(f"  survives: {change}", flush=True)
        if number % 50 == 0:
            seconds = time.monotonic() - began
            print(f"  {name}: {number} of {len(changes)}, {seconds:.0f} s", flush=True)
    unexplained = [change for change in survivors if not room.explains(change)]
    print(
        f"{name}: {len(changes)} mutants, {len(changes) - len(survivors)} killed, {len(survivors)} "
        f"survived, {len(unexplained)} of them not explained, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return len(unexplained)


@contextlib.contextmanager
def _made(change: Change) -> Iterator[None]:
    original = change.path.read_text()
    change.path.write_text(change.source)
    try:
        yield
    finally:
        change.path.write_text(original)


def _is_noticed(room: Room, path: Path) -> bool:
    """Whether the room's tests fail, in a process of their own."""
    child = os.fork()
    if not child:
        _test(room, path)
    return os.waitpid(child, 0)[1] != 0


def _address_space() -> int:
    """How many bytes this process has mapped; on Linux alone it is known."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _test(room: Room, path: Path) -> None:
    """Runs the tests; ends this process."""
    code = 3
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MORE_BYTES,) * 2)
        signal.alarm(10 * CPU_SECONDS)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        for module in [m for m in sys.modules if m.partition(".")[0] in ("tfdist", "tests")]:
            del sys.modules[module]  # as the copy has them now
        sys.path[:] = [os.getcwd(), *(p for p in sys.path if p not in ("", str(ROOT)))]
        own = [test for test in room.tests if test.endswith(f"test_{path.stem}.py")]
        others = [test for test in room.tests if test not in own]
        found = 0
        for tests in filter(None, (own, others)):  # most changes are noticed by the first of them
            found = found or int(pytest.main([*_OPTIONS, *tests]))
        code = found  # pytest itself may fail for want of memory, and that is noticed, too
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
