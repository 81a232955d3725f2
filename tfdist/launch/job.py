"""A job on this machine: start its tasks, watch them, end them.

    start ──► watch ──► all ended with 0                                        ──► 0
                │  └──► the chief of a parameter-server job ended with 0: give the servers
                │       the grace time to follow, end those that do not          ──► 0
                ├─────► a worker of a parameter-server job failed: start it again, while there are
                │       restarts left, and go on
                ├─────► a task failed: end the others, then start all again, while there are
                │       restarts left (of those that were asked for)             ──► its exit code
                └─────► Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2: end all     ──► 128 + signal,
                        or 75 where they train with a checkpoint, and have saved first

One thread does it all, the one that started the tasks: the kernel ends them with it (start.py).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal, TextIO

from tfdist.cluster import Task
from tfdist.errors import ClusterError, Preempted
from tfdist.launch import announcing
from tfdist.launch.failure import (
    Failure,
    TaskResult,
    ended_well_before,
    exit_code,
    find_failure,
    is_consequence,
    lost_another,
)
from tfdist.launch.ground import Ground, Starter, ThisMachine, Witness
from tfdist.launch.job_secret import secret_variables
from tfdist.launch.live import LiveView
from tfdist.launch.no_show import NoShow
from tfdist.launch.output import Display, display_for, log_folder
from tfdist.launch.plan import JobPlan
from tfdist.launch.presence import Presence
from tfdist.launch.restarts import Restarts
from tfdist.launch.result import JobResult
from tfdist.launch.running_task import RunningTask
from tfdist.launch.stopped_tasks import StoppedTasks
from tfdist.machine.signals import DEFAULT_GRACE, ENDS, caught

__all__ = ["LOGS", "Job", "JobResult", "Why"]

Why = Literal["failure", "signal", "finished", "told"]
"""Why tasks are ended."""

LOGS = "tfdist_logs"
"""The folder, in the working directory, under which each job gets a folder for its logs."""

_TICK_SECONDS = 0.05
# Deaths that look like consequences wait for their cause to show: a process with TensorFlow inside
# loses its connections up to seconds before it has ended.
_SETTLE_SECONDS = 2.0
# Servers end by the word of a chief that has failed, and it takes TensorFlow down after that.
_CHIEF_SECONDS = 20.0
_LAST_WORDS_SECONDS = 1.0  # where all begin again; what is being written is waited for longer
_SERVERS = ("worker", "ps")
_SIGNALS = (signal.SIGINT, signal.SIGHUP, *ENDS)


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
        ground: Ground | None = None,
        environ: Mapping[str, str] | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
        prefix: bool = True,
        live: LiveView | None = None,
    ) -> None:
        """Prepares the job.

        Args:
            plan: What to run.
            log_dir: A folder for the logs, which overwrite those of the same names; None for a
                fresh one under ./tfdist_logs.
            grace: Seconds between the first signal to a task and SIGKILL.
            max_restarts: How many restarts the job has. In a parameter-server job, one starts a
                failed worker again; else, and where the chief or a ps has failed, it starts all
                tasks again, at the same ports, to resume from a checkpoint. None: 3 for workers of
                a parameter-server job, else 0.
            ground: Where the tasks run; None for this machine.
            environ: The variables that the plan's come on top of; None for those of this process.
            out: Where the tasks' output goes; None for standard output.
            err: Where the launcher's own lines go; None for standard error.
            prefix: Whether each line names its task. False is for one task only, shown as it is.
            live: Takes in how far the tasks are; None where nobody wants to know.
        """
        if grace < 0:
            raise ClusterError(f"grace of {grace:g} s; give 0 or more")
        if not prefix and len(plan.tasks) > 1:
            raise ClusterError(f"{len(plan.tasks)} tasks without a prefix; only one can be so")
        self.plan = plan
        self.grace = grace
        self._ground = ground or ThisMachine()
        self._environ = dict(os.environ if environ is None else environ)
        self._environ |= secret_variables(plan, self._environ)
        self._live = live or LiveView()
        self._environ = self._live.environ(self._environ)
        self._log_dir = None if log_dir is None else Path(log_dir)
        self._display: Display = display_for(
            plan, self._environ, out or sys.stdout, err or sys.stderr, prefix, self._live.foot
        )
        self._processes: list[RunningTask]
        self._results: dict[str, TaskResult]
        self._asked: list[int] = []  # the signals that we were sent
        self._restarts = Restarts.of(max_restarts, plan.has_servers)
        here = [task.task for task in plan.tasks]
        self._restarts.chief_is_elsewhere = (
            self._restarts.asked_for and plan.cluster.chief not in here
        )
        self._told_of_evaluator = False
        self._begin()

    def _begin(self) -> None:
        """Sets the watch to where no task has ended."""
        self._processes, self._results = [], {}
        self._ending: Why | Literal[""] = ""
        self._ended_at = 0.0
        self._steps: list[tuple[float, int]] = []  # when to send which signal
        self._to_end: list[RunningTask] = []
        self._failed_at: float | None = None
        self._chief_ended_at: float | None = None  # well, in a parameter-server job
        self._stopped = StoppedTasks(self.plan, self._environ)
        self._witness: Witness = Presence(self.plan.cluster, ())
        self._no_show = NoShow(self.plan)

    def run(self) -> JobResult:
        """Runs the job to its end, once.

        In the main thread, SIGINT, SIGTERM and SIGHUP end the job while this runs; elsewhere
        `stop` does.

        Returns:
            How it ended.

        Raises:
            LaunchError: A task cannot be started or the logs cannot be written.
        """
        log_dir = log_folder(self._log_dir, Path(LOGS))
        with contextlib.ExitStack() as stack:
            stack.enter_context(caught(self._on_signal, _SIGNALS))
            ground = self._ground.open(self.plan, log_dir, self._environ, self._display.say)
            starter = stack.enter_context(ground)
            stack.enter_context(self._live.opened(self._display.say))
            stack.callback(self._kill_what_is_left)
            while (plan := self._next_plan(log_dir)) is not None:
                self.plan = plan
                self._begin()
                self._witness, self._no_show = starter.witness(plan), NoShow(plan)
                self._live.plan(plan)
                for task in plan.tasks:
                    self._processes.append(starter.start(task))
                    self._live.began(str(task.task))
                self._watch(starter)
            for whose, daemons in starter.remains().items():
                self._display.say(announcing.remains(whose, daemons))
        self._display.close()
        return self._conclude(log_dir)

    def _watch(self, starter: Starter) -> None:
        """Returns when nothing of any task is left."""
        while not all(process.gone for process in self._processes):
            self._read(_TICK_SECONDS)
            for process in self._processes:
                self._look_at(process, starter)
            self._witness.look()
            self._look_around()
            self._replace_lost_workers(starter)
            self._decide(time.monotonic())
            self._live.look()
            self._display.refresh()

    def _look_around(self) -> None:
        """What else is to be looked at meanwhile."""
        self._stopped.look(self._processes, self._is_needed, self._display.say)
        self._no_show.look(self._witness, self._display.say)

    def _is_needed(self, task: Task) -> bool:
        """Whether the job cannot go on without a task; a worker of servers may be spared."""
        spared = self.plan.has_servers and task.type == "worker" and not self._restarts.left
        return not spared or task in self._witness.absent()

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Ends the job, as the same signal to the launcher would; for other threads."""
        self._asked.append(signum)

    def _read(self, timeout: float) -> None:
        poller = select.poll()
        for pipe in {one.pipe for one in self._processes if one.pipe is not None}:
            poller.register(pipe, select.POLLIN)
        ready = {pipe for pipe, _ in poller.poll(timeout * 1000)}
        for process in self._processes:
            if process.pipe in ready or process.holds_output:
                self._display.feed(process.name, process.read())
            self._live.hear(process.name, process.read_progress(), here=not process.host)

    def _look_at(self, process: RunningTask, starter: Starter) -> None:
        if process.gone:
            return
        gone = process.poll()
        if process.returncode is not None and process.name not in self._results:
            self._display.feed(process.name, process.drain())  # its log tells how it ended
            self._results[process.name] = process.result()
            self._live.ended(process.name, process.result())
            if self.plan.has_servers and process.task.type == "chief" and process.returncode == 0:
                self._chief_ended_at = time.monotonic()
        if gone:
            starter.forget(process)
            if process.remains:
                self._display.say(announcing.remains(process.name, process.remains))
            self._display.feed(process.name, process.close())
            self._display.finish(process.name)

    def _replace_lost_workers(self, starter: Starter) -> None:
        """In a parameter-server job, starts failed workers again while there are restarts left."""
        for number, process in enumerate(self._processes):
            result = self._results.get(process.name)
            if result is None or not process.gone or not self._is_replaceable(result):
                continue
            self._restarts.used += 1
            self._display.say(announcing.starting_again(result, self._restarts, everybody=False))
            self._processes[number] = starter.start(process.plan)
            self._live.began(process.name)
            del self._results[process.name]

    def _is_replaceable(self, result: TaskResult) -> bool:
        """Whether a task's bad end is to be mended by starting it alone again."""
        job_goes_on = self._failed_at is None and self._chief_ended_at is None
        free = not self._ending and not self._asked
        return free and job_goes_on and self._restarts.mends_alone(result)

    def _next_plan(self, log_dir: Path) -> JobPlan | None:
        """What is to be started now; None where the job has ended."""
        if not self._processes:
            self._display.say(announcing.starting(self.plan, log_dir))
            return self.plan
        return self.plan if self._may_begin_again() else None

    def _may_begin_again(self) -> bool:
        """Whether all tasks are to be started again; says so."""
        results = [self._results[process.name] for process in self._processes]
        failure = find_failure([one for one in results if not self._is_forgiven(one)])
        if self._asked or failure is None or not self._restarts.mends_all(failure.result):
            return False
        if lost_another(failure.result) and ended_well_before(failure.result, results):
            return False  # it would end so again
        self._restarts.used += 1
        self._display.say(announcing.result_lines(results, failure))
        self._display.say(announcing.starting_again(failure.result, self._restarts, everybody=True))
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
        late = self._ending in ("failure", "told") and now > self._ended_at + _LAST_WORDS_SECONDS
        slow = [one for one in self._to_end if late and one.dawdles]
        for process in slow if slow and self._goes_on() else ():
            process.send(signal.SIGKILL)

    def _goes_on(self) -> bool:
        """Whether all begin again after this: then nobody waits for those that take long to end."""
        failure = find_failure(list(self._results.values()))
        return failure is not None and self._restarts.mends_all(failure.result)

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
            running = [process.task.type for process in self._processes if process.running]
            chief_ends = "chief" in running and all(
                result.task.type in _SERVERS for result in failed
            )
            settle = _CHIEF_SECONDS if self.plan.has_servers and chief_ends else _SETTLE_SECONDS
            waited = now - self._failed_at > settle
            if waited or not all(is_consequence(result) for result in failed):
                self._end("failure", self._processes, signal.SIGTERM, now)
        elif self._chief_ended_at is not None and now > self._chief_ended_at + self.grace:
            servers = [process for process in self._processes if process.task.type in _SERVERS]
            if not all(process.gone for process in servers):
                self._end("finished", servers, signal.SIGTERM, now)
            elif not self._told_of_evaluator:
                self._told_of_evaluator = True
                self._display.say(announcing.waiting_for_evaluator())

    def _end(self, why: Why, processes: Sequence[RunningTask], signum: int, now: float) -> None:
        """Plans the signals that end some tasks, the first at once.

        Python cannot raise KeyboardInterrupt inside a TensorFlow operation, and a script that makes
        TensorFlow's own strategy has a preemption notifier that swallows SIGTERM: what ends such a
        process is SIGKILL.
        """
        self._ending, self._ended_at = why, now
        self._to_end = [process for process in processes if not process.gone]
        self._steps = [(now, signal.SIGTERM), (now + self.grace, signal.SIGKILL)]
        if signum == signal.SIGINT:
            self._steps = [(now, signum), (now + self.grace / 2, signal.SIGTERM), self._steps[1]]
        self._say_why(why, signum, [one.name for one in self._to_end if one.running])

    def _say_why(self, why: Why, signum: int, running: Sequence[str]) -> None:
        if why == "signal":
            self._display.say(announcing.signalled(signum, running, self.grace))
        elif why == "finished":
            self._display.say(announcing.finishing(running, self.grace))
        elif failure := find_failure(list(self._results.values())):
            self._display.say(announcing.failing(failure.result, running, self.grace))

    def _is_forgiven(self, result: TaskResult) -> bool:
        """Whether a task's bad end does not matter: a server, once the chief has ended well."""
        if self._chief_ended_at is None or result.task.type not in _SERVERS:
            return False
        return result.stopped or is_consequence(result)

    def _conclude(self, log_dir: Path) -> JobResult:
        tasks = tuple(self._results[process.name] for process in self._processes)
        failure, returncode = self._verdict(tasks)
        for log in (process.log for process in self._processes if process.log.error):
            self._display.say(f"log {log.path} cut short: {log.error}")
        if failure is not None:
            self._display.say(announcing.result_lines(tasks, failure))
        if alone := () if returncode else self._witness.absent():
            self._display.say(announcing.alone(alone, plugged=self.plan.plugged))
        self._display.say(
            f"whole logs in {log_dir}; exit code {returncode}"
            if returncode
            else announcing.finished(tasks)
        )
        return JobResult(tasks, returncode, log_dir, failure, self._restarts.used, alone)

    def _verdict(self, tasks: Sequence[TaskResult]) -> tuple[Failure | None, int]:
        """The first failure, and the exit code of the job."""
        if self._ending == "signal":
            # A task that has lost another one ends with the same code: the chief knows.
            chief = [result for result in tasks if result.task == self.plan.cluster.chief]
            saved = any(one.returncode == Preempted.exit_code for one in chief or tasks)
            return None, Preempted.exit_code if saved else 128 + self._asked[0]
        failure = find_failure([result for result in tasks if not self._is_forgiven(result)])
        return failure, exit_code(failure.result) if failure else 0

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
