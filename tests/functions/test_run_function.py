"""`tfdist.run` calls a function in real processes, and brings back what comes of it.

Nothing here trains: a job without TensorFlow takes half a second.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import tfdist
from tests.functions.test_run_in_scripts import run_script
from tests.launch.support import is_alive
from tfdist.cluster import Task
from tfdist.errors import ClusterError, DeadlinePassed, LaunchError, StrategyError
from tfdist.functions import outcome
from tfdist.functions.call import Call
from tfdist.functions.function_job import FunctionJob
from tfdist.functions.outcome import RemoteTraceback
from tfdist.functions.pickling import Unpackable
from tfdist.functions.run_function import _error
from tfdist.launch import Failure, JobResult, TaskResult

ROOT = Path(__file__).parent.parent.parent

quiet: Callable[..., Any] = functools.partial(tfdist.run, show="none", timeout=60)


@pytest.fixture(autouse=True)
def _logs_go_to_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Declined(Exception):
    """One that pickle can write, but not read."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} declined")
        self.code = code


class Held(Exception):
    """One that pickle cannot write."""

    def __init__(self) -> None:
        super().__init__("held by", threading.Lock())
        self.lock = threading.Lock()
        self.seat = 4


def who(times: int = 1, *, of: str = "") -> str:
    import tfdist.process

    return str(tfdist.process.current().task) * times + of


def raises(error: Callable[[], BaseException]) -> Callable[[], None]:
    def fail() -> None:
        if who() == "worker:1":
            raise error()
        time.sleep(30)

    return fail


# ------------------------------------------------------------ what comes back


def test_the_chiefs_value_comes_back() -> None:
    assert quiet(who) == "worker:0"
    assert quiet(who, 2, of="!", workers=1) == "worker:0worker:0!"


def test_every_tasks_value_comes_back_where_asked() -> None:
    found = quiet(who, returns="all", workers=3)
    assert found == {f"worker:{n}": f"worker:{n}" for n in range(3)}


def test_large_arrays_travel_both_ways() -> None:
    numbers = np.arange(5_000_000, dtype="float64")
    twice = quiet(lambda: numbers * 2, workers=1)
    np.testing.assert_array_equal(twice, numbers * 2)


def test_a_closure_and_a_partial_keep_what_they_hold() -> None:
    seen = {"a": 1}

    def inner(x: int, y: int) -> dict[str, int]:
        return {**seen, "x": x, "y": y}

    assert quiet(functools.partial(inner, y=2), 1, workers=1) == {"a": 1, "x": 1, "y": 2}
    assert seen == {"a": 1}


@pytest.mark.parametrize("end", [sys.exit, functools.partial(os._exit, 0)])
def test_a_chief_that_ends_before_the_function_returns_gives_no_none(
    end: Callable[[], None],
) -> None:
    with pytest.raises(LaunchError, match=r"^worker:0 ended before <lambda> returned, with exit"):
        quiet(lambda: end(), workers=1)


def test_all_values_leave_out_a_task_that_ends_before_the_function_returns() -> None:
    found = quiet(lambda: sys.exit() if who() == "worker:0" else 5, returns="all")
    assert found == {"worker:1": 5}


def test_several_threads_run_jobs_at_once() -> None:
    with concurrent.futures.ThreadPoolExecutor() as threads:
        found = [threads.submit(quiet, who, n, workers=1) for n in (1, 2, 3)]
        assert [one.result() for one in found] == ["worker:0" * n for n in (1, 2, 3)]


def test_a_job_that_is_started_again_gives_the_last_ones_value(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def second_time() -> str:
        if who() == "worker:1" and not seen.exists():
            seen.touch()
            raise KeyError("the first time")
        return who()

    assert quiet(second_time, max_restarts=1, returns="all") == {
        "worker:0": "worker:0",
        "worker:1": "worker:1",
    }


def test_the_tasks_have_the_callers_variables_and_those_that_are_given() -> None:
    found = quiet(
        lambda: (os.environ["A_VARIABLE"], os.environ["HOME"]),
        workers=1,
        environ={"A_VARIABLE": "its value"},
    )
    assert found == ("its value", os.environ["HOME"])


def test_lines_are_those_that_the_tasks_variables_ask_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def logs() -> None:
        print("I0000 00:00:1700000000.000001 77 somewhere.cc:1] of the native log")

    options: dict[str, Any] = {"workers": 1, "show": "lines", "timeout": 60}
    tfdist.run(logs, **options)
    assert "of the native log" not in capfd.readouterr().out
    tfdist.run(logs, **options, environ={"TF_CPP_MIN_LOG_LEVEL": "0"})
    out, err = capfd.readouterr()
    assert out.startswith("[worker:0] I0000 00:00:1700000000.000001 77 somewhere.cc:1] of the")
    assert "starting worker:0" in err


# ------------------------------------------------------------ what fails


def test_the_first_failing_tasks_exception_is_raised_with_its_traceback() -> None:
    with pytest.raises(KeyError, match="no such thing") as caught:
        quiet(raises(lambda: KeyError("no such thing")))
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in fail" in str(cause)
    assert "raise error()" in str(cause)  # the line itself
    assert "functions/called.py" not in str(cause)
    (note,) = caught.value.__notes__
    assert note.startswith("raised in worker:1, whose log is tfdist_logs")


def test_an_exception_that_pickle_cannot_read_keeps_its_type_and_what_it_carries() -> None:
    with pytest.raises(Declined, match="card declined") as caught:
        quiet(raises(lambda: Declined("card", 7)))
    assert caught.value.code == 7


def test_an_exception_that_pickle_cannot_write_keeps_its_type_and_what_can_travel() -> None:
    with pytest.raises(Held, match="held by") as caught:
        quiet(raises(Held))
    assert caught.value.seat == 4
    assert not hasattr(caught.value, "lock")


def test_sys_exit_ends_the_job_and_not_the_caller() -> None:
    with pytest.raises(LaunchError, match=r"worker:1 ended by SystemExit\(3\)"):
        quiet(raises(lambda: SystemExit(3)))


def test_a_killed_task_is_told_with_its_signal() -> None:
    def die() -> None:
        if who() == "worker:1":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(30)

    with pytest.raises(LaunchError, match=r"worker:1 was ended by SIGKILL \(exit code 137, not by"):
        quiet(die)


def test_a_failure_is_told_though_the_deadline_passes_while_the_others_end(
    tmp_path: Path,
) -> None:
    worker = Task("worker", 1)
    outcome.write_error(tmp_path, worker, KeyError("in time"))
    ended = TaskResult(worker, 1, Path("log"), 0.0, 1.0)
    result = JobResult((ended,), 1, tmp_path, Failure(ended, ()))
    raised = _error(Call(who), result, tmp_path, cast(FunctionJob, None), timeout=4.0)
    assert isinstance(raised, KeyError)


def test_workers_that_may_have_trained_alone_are_named_even_where_nothing_is_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def trains_alone() -> None:
        sys.modules["keras"] = sys  # as if it were imported

    quiet(lambda: None)
    assert capfd.readouterr().err == ""
    quiet(trains_alone)
    said = capfd.readouterr().err
    assert "NO STRATEGY was made by worker:0, worker:1: each has called the function by" in said
    assert said.endswith("make tfdist.strategy() in it, or run it with plug=True\n")


def test_a_crash_in_native_code_is_told() -> None:
    def crash() -> None:
        import ctypes

        ctypes.string_at(0)

    with pytest.raises(LaunchError, match="worker:0 was ended by SIGSEGV"):
        quiet(crash, workers=1)


def test_a_function_that_does_not_return_is_ended_at_its_deadline_which_says_where_it_was() -> None:
    def wait_for_nothing() -> None:
        print("pid", os.getpid(), flush=True)
        threading.Event().wait()

    began = time.monotonic()
    with pytest.raises(DeadlinePassed) as caught:
        quiet(wait_for_nothing, timeout=3)
    assert time.monotonic() - began < 20
    assert isinstance(caught.value, TimeoutError)
    said = str(caught.value)
    assert said.startswith("wait_for_nothing has not returned within 3 s, and its job was ended: ")
    assert "worker:0 in wait_for_nothing (test_run_function.py, line" in said
    assert "worker:1 in wait_for_nothing" in said
    logs = list(Path("tfdist_logs").rglob("worker-*.log"))
    pids = [int(log.read_text().split()[1]) for log in logs]
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


# ------------------------------------------------------------ what is refused, before it starts


def test_a_value_that_cannot_come_back_is_told() -> None:
    with pytest.raises(
        Unpackable, match=r"^what <lambda> has returned cannot go to another process"
    ):
        quiet(lambda: threading.Lock(), workers=1)


def refused(*args: Any, **kwargs: Any) -> str:
    """What is said, in one sentence, without a process; `Popen` would fail."""
    with pytest.raises(tfdist.errors.TfdistError) as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)
        quiet(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_go_to_a_task_is_named() -> None:
    lock = threading.Lock()

    def uses() -> object:
        return lock

    def calls() -> object:
        return uses()

    assert refused(uses).startswith("'lock', which uses uses, cannot go to another process (Type")
    assert "'lock', which uses uses," in refused(calls)
    assert refused(print, 1, lock).startswith("argument 2 of print cannot go to another process")
    assert refused(who, of=lock).startswith("argument 'of' of who cannot go to another process")
    assert refused(lambda: lock).startswith("'lock', which <lambda> uses, cannot")


def test_a_call_that_does_not_fit_the_function_is_told_at_once() -> None:
    assert "missing a required argument: 'times'" in refused(lambda times: times)
    said = refused(who, worker=2)
    assert said.endswith("unexpected keyword argument 'worker'; did you mean 'workers'?")
    assert refused("train.py").startswith("tfdist.run('train.py'): give a function")


def test_options_that_there_are_not_are_told_at_once() -> None:
    assert (
        refused(who, show="bars")
        == "show='bars'; did you mean 'bar'?; give one of auto, bar, lines, none"
    )
    assert "did you mean 'pipeline'?" in refused(who, strategy="pipelin")
    assert refused(who, timeout=0).startswith("timeout=0: give seconds above 0")
    assert refused(who, workers=-1).startswith("workers=-1: give a whole number")
    assert refused(who, environ={"A": 1}).startswith("environ={'A': 1}: give names and values as")
    assert refused(who, isolate="of").startswith("isolate='of'; did you mean 'off'?")
    assert refused(who, workers=0)
    with pytest.raises(StrategyError, match="give ps=1, or more"):
        quiet(who, strategy="parameter_server")


def test_a_job_within_a_job_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"tfdist\.run in a task of a job"):
        quiet(lambda: tfdist.run(who), workers=1)


def test_a_module_that_calls_it_when_it_is_imported_is_told_of_the_main_guard(
    tmp_path: Path,
) -> None:
    (tmp_path / "unguarded.py").write_text("import tfdist\ndef f(): pass\ntfdist.run(f)\n")
    done = run_script("import unguarded", tmp_path)
    assert done.returncode != 0
    assert "while a task imports the module 'unguarded': put the call under" in done.stderr
    assert '`if __name__ == "__main__":`' in done.stderr
