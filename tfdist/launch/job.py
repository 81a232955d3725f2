"""A job on this machine: start its tasks, watch them, end them.

    start ──► watch ──► all ended with 0                                        ──► 0
                │  └──► the chief of a parameter-server job ended with 0: give the servers
                │       the grace time to follow, end those that do not          ──► 0
                ├─────► a worker of a parameter-server job failed: start it again, while there are
                │       restarts left, and go on
                ├─────► a task failed: end the others, then start all again, while there are
                │       restarts left (there are none in a parameter-server job) ──► its exit code
                └─────► Ctrl-C, SIGTERM or SIGHUP: end all                       ──► 128 + signal

One thread does it all, the one that started the tasks: the kernel ends them with it (start.py).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, TextIO

from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError, LaunchError, RendezvousError, TaskLost
from tfdist.launch import report
from tfdist.launch.failure import (
    Failure,
    TaskResult,
    describe,
    exit_code,
    find_failure,
    is_consequence,
)
from tfdist.launch.guardian import JOB_VARIABLE, Guardian
from tfdist.launch.output import Console, Display, Passthrough, fresh_log_dir
from tfdist.launch.plan import JobPlan, TaskPlan, make_plan
from tfdist.launch.process import TaskProcess
from tfdist.launch.signals import caught

__all__ = ["DEFAULT_GRACE", "DEFAULT_RESTARTS", "LOGS", "Job", "JobResult", "run_job"]

DEFAULT_GRACE = 5.0
"""Seconds between the first signal to a task and SIGKILL."""

DEFAULT_RESTARTS = 3
"""How many times a parameter-server job starts workers again; other jobs do so if asked to."""

LOGS = "tfdist_logs"
"""The folder, in the working directory, under which each job gets a folder for its logs."""

_TICK_SECONDS = 0.05
# Deaths that look like consequences wait for their cause to show: a process with TensorFlow inside
# loses its connections up to seconds before it has ended.
_SETTLE_SECONDS = 2.0
_SERVERS = ("worker", "ps")
# What will not be better the next time: a wrong spec, tasks that do not come.
_HOPELESS = (ClusterError.exit_code, RendezvousError.exit_code)


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        tasks: How each task of this machine ended, in the cluster's order.
        returncode: What `tfdist run` exits with: 0, the first failing task's exit code (128 + n
            where signal n ended it), or 128 + n where the launcher itself was sent signal n.
        log_dir: The folder of the logs, "worker-1.log" for worker:1.
        failure: The first failure; None where there is none or where the launcher was told to end.
        restarts: How many times a worker, or the whole job, was started again.
    """

    tasks: tuple[TaskResult, ...]
    returncode: int
    log_dir: Path
    failure: Failure | None = None
    restarts: int = 0

    def check(self) -> JobResult:
        """Returns this result if the job ended well.

        Raises:
            LaunchError: It did not; the message names the first failure and the end of its log.
        """
        if self.returncode == 0:
            return self
        if self.failure is None:
            raise LaunchError(f"the job was ended (exit code {self.returncode})")
        lines = (f"{self.failure.task} {describe(self.failure.result)}:", *self.failure.excerpt)
        raise LaunchError("\n  ".join(lines))


class Job:
    """The tasks of a job that this machine runs.

    Example:
        >>> result = Job(make_plan(["train.py"], cluster)).run()
    """

    def __init__(
        self,
        plan: JobPlan,
        *,
        log_dir: str | os.PathLike[str] | None = None,
        grace: float = DEFAULT_GRACE,
        max_restarts: int | None = None,
        environ: Mapping[str, str] | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
        prefix: bool = True,
    ) -> None:
        """Prepares the job.

        Args:
            plan: What to run.
            log_dir: A folder for the logs, which overwrite those of the same names; None for a
                fresh one under ./tfdist_logs.
            grace: Seconds between the first signal to a task and SIGKILL.
            max_restarts: How many restarts the job has. In a parameter-server job, one starts a
                failed worker again; the failure of a chief or a ps ends the job. In others, one
                starts all tasks again, at the same ports, to resume from a checkpoint. None: 3 in
                a parameter-server job, else 0.
            environ: The variables that the plan's come on top of; None for those of this process.
            out: Where the tasks' output goes; None for standard output.
            err: Where the launcher's own lines go; None for standard error.
            prefix: Whether each line names its task. False is for one task only, shown as it is.
        """
        if grace < 0:
            raise ClusterError(f"grace of {grace:g} s; give 0 or more")
        if max_restarts is not None and max_restarts < 0:
            raise ClusterError(f"max_restarts of {max_restarts}; give 0 or more")
        if not prefix and len(plan.tasks) > 1:
            raise ClusterError(f"{len(plan.tasks)} tasks without a prefix; only one can be so")
        self.plan = plan
        self.grace = grace
        usual = DEFAULT_RESTARTS if plan.has_servers else 0
        self.max_restarts = usual if max_restarts is None else max_restarts
        self._environ = dict(os.environ if environ is None else environ)
        self._log_dir = None if log_dir is None else Path(log_dir)
        out, err = out or sys.stdout, err or sys.stderr
        names = [str(task.task) for task in plan.tasks]
        live = str(plan.cluster.chief)
        first = plan.tasks[0].environ(self._environ)
        quiet = first.get("TF_CPP_MIN_LOG_LEVEL", "0") not in ("0", "1")
        live = live if live in names else names[0]
        self._display: Display = (
            Console(names, live=live, out=out, err=err, quiet=quiet)
            if prefix
            else Passthrough(out=out, err=err)
        )
        self._processes: list[TaskProcess]
        self._results: dict[str, TaskResult]
        self._asked: list[int] = []  # the signals that we were sent
        self._restarts = 0
        self._told_of_evaluator = False
        self._begin()

    def _begin(self) -> None:
        """Sets the watch to where no task has ended."""
        self._processes, self._results = [], {}
        self._ending: Literal["", "failure", "signal", "finished"] = ""
        self._steps: list[tuple[float, int]] = []  # when to send which signal
        self._to_end: list[TaskProcess] = []
        self._failed_at: float | None = None
        self._chief_ended_at: float | None = None  # well, in a parameter-server job

    def run(self) -> JobResult:
        """Runs the job to its end, once.

        In the main thread, SIGINT, SIGTERM and SIGHUP end the job while this runs; elsewhere
        `stop` does.

        Returns:
            How it ended.

        Raises:
            LaunchError: A task cannot be started or the logs cannot be written.
        """
        log_dir = self._make_log_dir()
        mark = secrets.token_hex(8)
        environ = {**self._environ, JOB_VARIABLE: mark}
        with contextlib.ExitStack() as stack:
            stack.enter_context(caught(self._on_signal))
            guardian = stack.enter_context(Guardian(mark))
            stack.callback(self._kill_what_is_left)
            self._display.say(report.starting(self.plan, log_dir))
            starter = _Starter(log_dir, environ, guardian)
            while True:
                for plan in self.plan.tasks:
                    self._processes.append(starter.start(plan, again=self._restarts > 0))
                self._watch(starter)
                if not self._may_begin_again():
                    break
                self._begin()
        self._display.close()
        return self._conclude(log_dir)

    def _watch(self, starter: _Starter) -> None:
        """Returns when nothing of any task is left."""
        while not all(process.gone for process in self._processes):
            self._read(_TICK_SECONDS)
            for process in self._processes:
                self._look_at(process, starter.guardian)
            self._replace_lost_workers(starter)
            self._decide(time.monotonic())
            self._display.refresh()

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Ends the job, as the same signal to the launcher would; for other threads."""
        self._asked.append(signum)

    def _make_log_dir(self) -> Path:
        try:
            if self._log_dir is None:
                return fresh_log_dir(Path(LOGS))
            self._log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            where = self._log_dir or Path.cwd() / LOGS
            raise LaunchError(
                f"log folder {where} that cannot be made "
                f"({(error.strerror or str(error)).lower()}); give another one with --log_dir"
            ) from None
        return self._log_dir

    def _read(self, timeout: float) -> None:
        pipes = {process.pipe: process for process in self._processes if process.pipe is not None}
        poller = select.poll()
        for pipe in pipes:
            poller.register(pipe, select.POLLIN)
        for pipe, _ in poller.poll(timeout * 1000):
            self._display.feed(pipes[pipe].name, pipes[pipe].read())

    def _look_at(self, process: TaskProcess, guardian: Guardian) -> None:
        if process.gone:
            return
        gone = process.poll()
        if process.returncode is not None and process.name not in self._results:
            self._display.feed(process.name, process.drain())  # its log tells how it ended
            self._results[process.name] = TaskResult(
                process.task,
                process.returncode,
                process.log.path,
                process.started,
                process.ended,
                stopped=bool(process.signals),
                log_start=process.log.start,
            )
            if self.plan.has_servers and process.task.type == "chief" and process.returncode == 0:
                self._chief_ended_at = time.monotonic()
        if gone:
            guardian.forget(process.pid)
            self._display.feed(process.name, process.close())
            self._display.finish(process.name)

    def _replace_lost_workers(self, starter: _Starter) -> None:
        """In a parameter-server job, starts failed workers again while there are restarts left."""
        for number, process in enumerate(self._processes):
            result = self._results.get(process.name)
            if result is None or not process.gone or not self._is_replaceable(result):
                continue
            self._restarts += 1
            self._display.say(
                report.starting_again(result, self._restarts, self.max_restarts, everybody=False)
            )
            self._processes[number] = starter.start(process.plan, again=True)
            del self._results[process.name]

    def _is_replaceable(self, result: TaskResult) -> bool:
        """Whether a worker's bad end is to be mended by starting it again."""
        return (
            self.plan.has_servers
            and result.task.type == "worker"
            # 75: the chief was lost, whose end we may only see later
            and result.returncode not in (0, TaskLost.exit_code, *_HOPELESS)
            and not (result.stopped or self._ending or self._asked)
            and self._failed_at is None
            and self._chief_ended_at is None
            and self._restarts < self.max_restarts
        )

    def _may_begin_again(self) -> bool:
        """Whether all tasks are to be started again; says so."""
        if self.plan.has_servers or self._asked or self._restarts >= self.max_restarts:
            return False
        results = [self._results[process.name] for process in self._processes]
        failure = find_failure(results)
        if failure is None or failure.result.returncode in _HOPELESS:
            return False
        self._restarts += 1
        self._display.say(report.result_lines(results, failure))
        self._display.say(
            report.starting_again(failure.result, self._restarts, self.max_restarts, everybody=True)
        )
        return True

    def _decide(self, now: float) -> None:
        """Starts to end tasks where there is a reason to, and goes on with it."""
        if self._asked.count(signal.SIGINT) > 1:
            self._kill_all()
        if self._ending in ("", "finished") and self._asked:
            self._end("signal", self._processes, self._asked[0], now)
        elif not self._ending:
            self._decide_by_results(now)
        while self._steps and self._steps[0][0] <= now:
            _, signum = self._steps.pop(0)
            for process in self._to_end:
                process.send(signum)

    def _decide_by_results(self, now: float) -> None:
        failed = [
            result
            for result in self._results.values()
            if result.returncode
            and not self._is_forgiven(result)
            and not self._is_replaceable(result)
        ]
        if failed:
            self._failed_at = now if self._failed_at is None else self._failed_at
            waited = now - self._failed_at > _SETTLE_SECONDS
            if waited or not all(is_consequence(result) for result in failed):
                self._end("failure", self._processes, signal.SIGTERM, now)
        elif self._chief_ended_at is not None and now > self._chief_ended_at + self.grace:
            servers = [process for process in self._processes if process.task.type in _SERVERS]
            if not all(process.gone for process in servers):
                self._end("finished", servers, signal.SIGTERM, now)
            elif not self._told_of_evaluator:
                self._told_of_evaluator = True
                self._display.say(report.waiting_for_evaluator())

    def _end(
        self,
        why: Literal["failure", "signal", "finished"],
        processes: Sequence[TaskProcess],
        signum: int,
        now: float,
    ) -> None:
        """Plans the signals that end some tasks, the first at once.

        TensorFlow's preemption notifier swallows SIGTERM, in training and while it waits for other
        tasks, and Python cannot raise KeyboardInterrupt inside a TensorFlow operation: what usually
        ends a process with TensorFlow inside is SIGKILL.
        """
        self._ending = why
        self._to_end = [process for process in processes if not process.gone]
        self._steps = [(now, signal.SIGTERM), (now + self.grace, signal.SIGKILL)]
        if signum == signal.SIGINT:
            self._steps = [(now, signum), (now + self.grace / 2, signal.SIGTERM), self._steps[1]]
        running = [process.name for process in self._to_end if process.running]
        if why == "signal":
            self._display.say(report.signalled(signum, running, self.grace))
        elif why == "finished":
            self._display.say(report.finishing(running, self.grace))
        elif failure := find_failure(list(self._results.values())):
            self._display.say(report.failing(failure.result, running, self.grace))

    def _is_forgiven(self, result: TaskResult) -> bool:
        """Whether a task's bad end does not matter: a server, once the chief has ended well."""
        if self._chief_ended_at is None or result.task.type not in _SERVERS:
            return False
        return result.stopped or is_consequence(result)

    def _conclude(self, log_dir: Path) -> JobResult:
        tasks = tuple(self._results[process.name] for process in self._processes)
        failure = None
        if self._ending == "signal":
            returncode = 128 + self._asked[0]
        else:
            failure = find_failure([result for result in tasks if not self._is_forgiven(result)])
            returncode = exit_code(failure.result.returncode) if failure else 0
        for process in self._processes:
            if process.log.error:
                self._display.say(f"log {process.log.path} cut short: {process.log.error}")
        if failure is not None:
            self._display.say(report.result_lines(tasks, failure))
        self._display.say(
            f"whole logs in {log_dir}; exit code {returncode}"
            if returncode
            else report.finished(tasks)
        )
        return JobResult(tasks, returncode, log_dir, failure, self._restarts)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._asked.append(signum)
        interrupts = self._asked.count(signal.SIGINT)
        if signum == signal.SIGINT and (interrupts > 1 or self._ending == "failure"):
            # Here and not in the loop, which may be stuck writing to a pager that nobody scrolls.
            self._kill_all()
        if interrupts > 2:
            os._exit(128 + signum)  # the guardian ends what is left

    def _kill_all(self) -> None:
        for process in self._processes:
            process.send(signal.SIGKILL)

    def _kill_what_is_left(self) -> None:
        """However the watch ends, by an error of our own too, no task stays."""
        self._kill_all()
        deadline = time.monotonic() + 1.0
        while any(process.running for process in self._processes) and time.monotonic() < deadline:
            for process in self._processes:
                process.poll()
            time.sleep(0.01)
        for process in self._processes:
            process.close()


@dataclass(frozen=True)
class _Starter:
    """Starts tasks of a job.

    Attributes:
        log_dir: The folder of the logs.
        environ: The variables that the plans' come on top of.
        guardian: Is told of each process.
    """

    log_dir: Path
    environ: Mapping[str, str]
    guardian: Guardian

    def start(self, plan: TaskPlan, *, again: bool) -> TaskProcess:
        """Starts a task; `again` where it ran before, so that its log goes on."""
        log = self.log_dir / f"{plan.task.type}-{plan.task.index}.log"
        process = TaskProcess(plan, log, plan.environ(self.environ), again=again)
        self.guardian.watch(process.pid)
        return process


def run_job(
    command: Sequence[str],
    cluster: Cluster,
    *,
    tasks: Sequence[Task] | None = None,
    plug: bool = False,
    threads: int | Literal["auto"] = "auto",
    rendezvous_timeout: float | None = None,
    environ: Mapping[str, str] | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    grace: float = DEFAULT_GRACE,
    max_restarts: int | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
    prefix: bool = True,
) -> JobResult:
    """Runs a script as a job: one process per task on this machine.

    Example:
        >>> with local_cluster(workers=2) as cluster:
        ...     result = run_job(["train.py", "--epochs", "3"], cluster)
        >>> result.returncode
        0

    Args:
        command: `["train.py", "--my_flag", "3"]` or `["-m", "package.module", ...]`.
        cluster: The job's cluster; its ports should be held meanwhile (`local_cluster`).
        tasks: The tasks to run on this machine; None for all of the cluster.
        plug: As for `make_plan`.
        threads: As for `make_plan`.
        rendezvous_timeout: As for `make_plan`.
        environ: The variables that the tasks start from; None for those of this process.
        log_dir: As for `Job`.
        grace: As for `Job`.
        max_restarts: As for `Job`.
        out: As for `Job`.
        err: As for `Job`.
        prefix: As for `Job`.

    Returns:
        How it ended. A failing task is no exception: see `JobResult.check`.

    Raises:
        ClusterError: The command or the numbers are wrong.
        LaunchError: A task cannot be started or the logs cannot be written.
    """
    plan = make_plan(
        command,
        cluster,
        tasks=tasks,
        plug=plug,
        threads=threads,
        rendezvous_timeout=rendezvous_timeout,
        environ=environ,
    )
    return Job(
        plan,
        log_dir=log_dir,
        grace=grace,
        max_restarts=max_restarts,
        environ=environ,
        out=out,
        err=err,
        prefix=prefix,
    ).run()
