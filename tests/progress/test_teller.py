"""A task tells by the pipe that it was handed, and by nothing else; nobody waits for a reader."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from tfdist.progress import PhaseClock, PhaseSeconds, Record, RecordReader
from tfdist.progress.teller import PIPE_VARIABLE, Measured, Teller, numbers_of, pipe_variable

ASKS = "from tfdist.progress import teller; print(teller.teller() is not None)"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    yield ends
    for end in ends:
        os.close(end)


def read(source: int) -> list[Record]:
    try:
        return RecordReader().feed(os.read(source, 1 << 20))
    except BlockingIOError:
        return []


def test_a_fit_is_told_from_its_beginning_to_its_end(pipe: tuple[int, int]) -> None:
    teller = Teller(pipe[1], spans=True, seconds=3600)
    clock = PhaseClock()
    clock.start("compute")

    def measure() -> Measured:
        return Measured(PhaseSeconds(compute=2.0), clock.phase or "", 0)

    with teller.fitting(clock, measure, epochs=3, steps=10, batch=32), teller.saving():
        teller.update(epoch=1, step=4, logs={"loss": 0.5})
        clock.enter("callbacks")
        teller.tell()
        clock.stop()
    begins, now, last, after = read(pipe[0])
    assert (begins.fit, begins.phase, begins.saving) == (0, "", False)
    assert (now.fit, now.phase, now.epoch, now.step, now.steps) == (1, "callbacks", 1, 4, 10)
    assert (now.saving, now.logs, now.seconds.compute) == (True, {"loss": 0.5}, 2.0)
    assert [(one.phase, one.step) for one in now.spans] == [("compute", 4)]
    assert [one.phase for one in last.spans] == ["callbacks"]
    assert (after.phase, after.seconds.compute) == ("", 2.0)
    assert clock.on_end is None
    teller.close()


def test_the_largest_batch_that_was_seen_is_told(pipe: tuple[int, int]) -> None:
    teller = Teller(pipe[1], spans=False, seconds=3600)
    for known, seen in ((None, (8, 3)), (16, (5,))):
        with teller.fitting(
            PhaseClock(), lambda: Measured(PhaseSeconds(), "input", 0), batch=known
        ):
            for rows in seen:
                teller.saw_batch(rows)
    assert [one.batch for one in read(pipe[0]) if one.fit] == [8, 8, 16, 16]
    teller.close()


def test_it_says_for_how_long_nothing_has_moved(pipe: tuple[int, int]) -> None:
    teller = Teller(pipe[1], spans=False, seconds=3600)
    moved = [0]
    clock = PhaseClock()
    with teller.fitting(clock, lambda: Measured(PhaseSeconds(), "compute", moved[0]), epochs=1):
        teller.tell()
        time.sleep(0.05)
        teller.tell()
        moved[0] += 1
        teller.tell()
    teller.close()
    stills = [one.still for one in read(pipe[0])][1:4]
    assert stills[0] == 0
    assert stills[1] >= 0.05
    assert stills[2] == 0


def test_it_tells_again_and_again(pipe: tuple[int, int]) -> None:
    teller = Teller(pipe[1], spans=False, seconds=0.01)
    found: list[Record] = []
    deadline = time.monotonic() + 20
    while len(found) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
        found += read(pipe[0])
    teller.close()
    assert len(found) >= 3


def test_where_nobody_reads_nothing_waits(pipe: tuple[int, int]) -> None:
    teller = Teller(pipe[1], spans=False, seconds=3600)
    for number in range(2000):
        teller.update(step=number)
        teller.tell()
    assert len(teller._unsent) < 1 << 17
    reader = RecordReader()
    steps: list[int] = []
    for number in (5000, 5001, 5002):
        teller.update(step=number)
        steps += [one.step for one in reader.feed(os.read(pipe[0], 1 << 20))]
        teller.tell()
    steps += [one.step for one in reader.feed(os.read(pipe[0], 1 << 20))]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] == 5002
    teller.close()


def test_where_the_reader_has_gone_it_ends(pipe: tuple[int, int]) -> None:
    source, sink = os.pipe()
    teller = Teller(sink, spans=False, seconds=3600)
    os.close(source)
    teller.tell()
    teller.tell()
    assert teller._wake.is_set()
    os.close(sink)


def test_numbers_are_told_and_nothing_else() -> None:
    assert numbers_of({"loss": 1, "text": "x", "many": [1, 2]}) == {"loss": 1.0}


def ask(variable: str, *descriptors: int) -> str:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), PIPE_VARIABLE: variable}
    command = [sys.executable, "-c", ASKS]
    return subprocess.run(
        command,
        env=environ,
        pass_fds=descriptors,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()


def test_it_takes_its_own_pipe_and_no_other_file(pipe: tuple[int, int]) -> None:
    variable = pipe_variable(pipe[1], "records")
    assert ask(variable, pipe[1]) == "True"
    assert ask(variable) == "False"  # a process of the task's, which has the variable alone
    other = os.open(os.devnull, os.O_WRONLY)
    assert ask(f"{other}:{variable.split(':')[1]}:records", other) == "False"
    assert ask("") == "False"
    assert ask("nonsense") == "False"
    os.close(other)
