"""`tfdist.run`: a Python function as a job of real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from tfdist import log
from tfdist.environments import LAUNCHED_VARIABLE, scheduler_of
from tfdist.errors import ClusterError, DeadlinePassed, LaunchError
from tfdist.functions import outcome
from tfdist.functions.call import CALL_FILE, Call, Header, write_call
from tfdist.functions.deadline import positions
from tfdist.functions.function_job import FunctionJob
from tfdist.functions.job_options import OPTIONS, JobOptions, Returns, Show
from tfdist.functions.pickling import loading
from tfdist.functions.screens import find_screen
from tfdist.functions.shared_folder import shared_folder
from tfdist.functions.view import LastLook, Silence, View, in_python
from tfdist.launch import GpuSupply, JobResult, ThisMachine, announcing, local_cluster, make_plan
from tfdist.launch.live import LiveView
from tfdist.launch.network import How
from tfdist.launch.output import Display
from tfdist.launch.plan import JobPlan

__all__ = ["run", "run_call"]


def run(
    function: Callable[..., Any],
    /,
    *args: Any,
    workers: int = 2,
    ps: int = 0,
    chief: bool | None = None,
    strategy: str | None = None,
    plug: bool = False,
    returns: Returns = "chief",
    timeout: float | None = None,
    show: Show = "auto",
    threads: int | Literal["auto"] = "auto",
    gpus_per_task: int | None = None,
    gpu_memory: int | None = None,
    max_restarts: int | None = None,
    isolate: How = "auto",
    log_dir: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> Any:
    """Calls a function in every task of a job on this machine, each a process of its own.

    The function may be defined anywhere: in a notebook's cell, in the script that is running, in
    another function. It and its arguments travel by value, so each task has copies. Nothing of this
    process is forked; TensorFlow starts in the tasks. The call returns when all tasks have ended,
    and leaves no process behind: Ctrl-C, or a notebook's interrupt, ends the job, and so does the
    end of this process, however it comes.

    Example:
        >>> def train(rate):
        ...     strategy = tfdist.strategy()
        ...     with strategy.scope():
        ...         model = make_model(rate)
        ...     return tfdist.plug(model).fit(x, y, epochs=3).history
        >>> tfdist.run(train, 0.1, workers=2)["loss"]

    Args:
        function: What is called.
        *args: Its arguments. A Keras model among them needs `strategy` or `plug`; tensors,
            datasets and strategies belong into the function.
        workers: How many workers.
        ps: How many parameter servers; one or more bring a chief, where alone the function goes on.
        chief: Whether there is a chief beside the workers; None where the strategy wants one
            ("pipeline", "tensor_parallel").
        strategy: A kind that `tfdist.strategy` knows, "auto" for instance: each task makes it
            first, and calls the function in its scope. None: the function makes its own.
        plug: Whether every model that the function trains is plugged, as by `tfdist run --plug`:
            for one that does not know tfdist.
        returns: "chief" for the chief's value, "all" for a dictionary of the values of all tasks in
            which the function has returned, by name: {"worker:0": ..., "worker:1": ...}.
        timeout: Seconds after which the job is ended; None for never.
        show: "bar": one bar and each task's last line; "lines": every line of every task; "none".
            "auto" is "bar" in a notebook and on a terminal, else "lines".
        threads: Threads for each chief and worker; "auto" shares this machine's cores out.
        gpus_per_task: GPUs of each task that computes; None shares out those that there are.
        gpu_memory: MiB that a task may take of each of its GPUs; None where nothing limits it.
        max_restarts: How many times a failed worker of a parameter-server job is started again (3),
            or all tasks of a job (0); see `tfdist run --help`.
        isolate: Whether the job has a network of its own, as for `tfdist run`.
        log_dir: A folder for the logs; None for a fresh one under ./tfdist_logs.
        environ: Variables of the tasks, on top of this process's.
        **kwargs: The function's arguments by name.

    Returns:
        What the function has returned in the chief, or worker:0 where there is none; see `returns`.
        Keras models come as files do, a History without its model, tensors as arrays.

    Raises:
        Exception: What the function has raised in the task that failed first, of the same type,
            caused by the traceback there.
        LaunchError: A task ended without an exception of its own (a crash, out of memory,
            `sys.exit(3)`), the chief ended well before the function returned (`sys.exit()`), or the
            function, an argument or the value cannot go to another process.
        DeadlinePassed: `timeout` has passed; the message says where each task was.
        ClusterError: The numbers make no cluster, or this process is a task of a job already.
        KeyboardInterrupt: This process was interrupted; the job has ended.
    """
    given = {name: value for name, value in locals().items() if name in OPTIONS}
    call = Call(function, args, kwargs)
    call.check(OPTIONS)
    return run_call(call, JobOptions(**given))


def run_call(call: Call, options: JobOptions, *, prints: bool = False) -> Any:
    """Runs a call as a job.

    Args:
        call: What is called.
        options: How the job runs.
        prints: Whether the chief's lines are printed under a bar, too.

    Returns:
        See `run`; so for what it raises.
    """
    _check_place()
    variables = {**os.environ, **(options.environ or {})}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(shared_folder())
        timeout = options.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        path = tuple(os.path.abspath(one) for one in sys.path)
        header = Header(path, options.strategy, options.returns, deadline)
        write_call(folder / CALL_FILE, header, call, scoped=options.gives_scope)
        cluster = stack.enter_context(local_cluster(options.workers, options.ps, options.has_chief))
        plan = make_plan(
            ["-m", "tfdist.functions.called", str(folder)],
            cluster,
            plug=options.plug,
            threads=options.threads,
            gpus=GpuSupply.here(variables, options.gpus_per_task, options.gpu_memory),
            environ=variables,
        )
        seen = LastLook()
        display = _display(options.show, plan, seen, prints)
        job = FunctionJob(
            plan,
            display,
            log_dir=options.log_dir,
            max_restarts=options.max_restarts,
            ground=ThisMachine(options.isolate),
            environ=variables,
            live=LiveView([seen]) if isinstance(display, View) else None,
        )
        result: JobResult | None = None
        try:
            with _ended_at(deadline, job) as late:
                result = job.run()
        finally:
            if isinstance(display, View):
                display.end(result)
        if result.returncode == 0:
            return _value(call, result, folder, str(cluster.chief), options)
        raise _error(call, result, folder, job, timeout if late.is_set() else None)


def _check_place() -> None:
    """Refuses a job within a job, which would start one in each of its tasks, and so on.

    Raises:
        ClusterError: This process is a task of a job, or one of several of a scheduler.
    """
    if loading():
        raise ClusterError(
            f"tfdist.run is called while a task imports {_module_being_imported()}: put the call "
            'under `if __name__ == "__main__":`, which is not run when the module is imported'
        )
    if os.environ.get(LAUNCHED_VARIABLE):
        raise ClusterError(
            "tfdist.run in a task of a job, where each task would start a job of its own: call it "
            "outside, in a plain `python script.py`"
        )
    if scheduler := scheduler_of(os.environ):
        raise ClusterError(
            f"tfdist.run starts a job of its own, but {scheduler.name} has started several "
            "processes like this one: set TFDIST_ENVIRONMENT=alone for a job in each"
        )


def _module_being_imported() -> str:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            return f"the module {frame.f_globals.get('__name__', '?')!r}"
        frame = frame.f_back
    return "a module"


def _display(show: Show, plan: JobPlan, seen: LastLook, prints: bool) -> Display | None:
    """What is shown; None for the lines of all tasks."""
    if show == "none":
        return Silence()
    screen = find_screen(asked_for=show == "bar") if show != "lines" else None
    if screen is None:
        return None
    names = [str(one.task) for one in plan.tasks]
    return View(names, str(plan.cluster.chief), seen, screen, prints=prints)


@contextlib.contextmanager
def _ended_at(deadline: float | None, job: FunctionJob) -> Iterator[threading.Event]:
    """Ends a job at the deadline, and sets the event then."""
    late = threading.Event()
    if deadline is None:
        yield late
        return

    def end() -> None:
        late.set()
        job.stop()

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _value(call: Call, result: JobResult, folder: Path, chief: str, options: JobOptions) -> Any:
    found = {
        str(one.task): left
        for one in result.tasks
        if (options.returns == "all" or str(one.task) == chief)
        and (left := outcome.read(folder, one.task, one.log)) is not None
    }
    if options.show == "none" and result.alone and any(one.knows_keras for one in found.values()):
        log.warning(in_python(announcing.alone(result.alone, plugged=options.plug)))
    values = {name: one.value for name, one in found.items()}
    if options.returns == "all":
        return values
    if chief not in values:  # None would look like what the function has returned
        raise LaunchError(
            f"{chief} ended before {call.name} returned, with exit code 0, as by sys.exit(): "
            f'return from it instead, or take returns="all", which leaves such tasks out'
            f"; whole logs in {result.log_dir}"
        )
    return values[chief]


def _error(
    call: Call, result: JobResult, folder: Path, job: FunctionJob, timeout: float | None
) -> BaseException:
    """What a job that did not end well raises here."""
    if result.failure is not None:  # perhaps while its deadline passed
        first = result.failure.result
        left = outcome.read(folder, first.task, first.log)
        if left is not None and left.error is not None:
            return left.error
    elif timeout is not None:
        where = positions(folder, [one.task for one in result.tasks])
        return DeadlinePassed(
            f"{call.name} has not returned within {timeout:g} s, and its job was ended"
            f"{where}; whole logs in {result.log_dir}"
        )
    else:
        if job.asked != signal.SIGINT:  # what would have happened here without the job
            signal.raise_signal(job.asked)
        return KeyboardInterrupt(f"the job was ended; whole logs in {result.log_dir}")
    try:
        result.check()
    except LaunchError as error:
        return LaunchError(f"{error}\nwhole logs in {result.log_dir}")
    raise AssertionError("a job with an exit code has ended well")
