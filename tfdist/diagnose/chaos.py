"""Runs a job again and again, with a fault in each run, and compares how it ends.

    undisturbed run ──► its bits, and when it was in which phase
    round: run, fault, until it ends ──► started again until it ends well ──► the same bits?

Each run has a working directory of its own, below which the job keeps its checkpoints.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfdist.diagnose import round as rounds_of
from tfdist.diagnose.disturbed_job import DisturbedJob
from tfdist.diagnose.fault_plan import Fault, draw_faults
from tfdist.diagnose.job_outcome import JobOutcome, largest_file, newest_checkpoint
from tfdist.diagnose.job_run import JobRun, left_over, tied
from tfdist.diagnose.job_timeline import Target, Timeline
from tfdist.diagnose.round import Round
from tfdist.diagnose.small_disk import SmallDisk
from tfdist.errors import CheckpointError, LaunchError
from tfdist.training.checkpointing.damage import damage_of

__all__ = ["Chaos"]

_SETTLE_SECONDS = 2.0
_TICK_SECONDS = 0.005
_LOOK_SECONDS = 0.2
_LEAST_DISK = 64 << 20


@dataclass(frozen=True)
class _Site:
    """Where one round takes place: its working directory, as seen from here, and its run."""

    folder: Path
    run: JobRun
    phases: Path
    disk: SmallDisk | None
    damage: list[str] = field(default_factory=list)


class Chaos:
    """Disturbs a job.

    Args:
        job: what is run.
        folder: where the runs' working directories are made.
        limit: seconds for one run of the job.
        counts_will_do: whether the same number of steps is all that the job promises, as on
            parameter servers with several workers.
        say: takes one line an event.
    """

    def __init__(
        self,
        job: DisturbedJob,
        folder: Path,
        *,
        limit: float,
        counts_will_do: bool,
        say: Callable[[str], None],
    ) -> None:
        self._job = job
        self._folder = folder
        self._limit = limit
        self._counts_will_do = counts_will_do
        self._say = say
        self._disk_size = _LEAST_DISK

    def run(self, rounds: int, seed: int, kinds: Sequence[str]) -> list[Round]:
        """Runs the job undisturbed, and then each round; says a line of the table for each.

        Raises:
            LaunchError: the undisturbed job has failed.
            CheckpointError: it has left no checkpoint.
        """
        self._say("running the job undisturbed")
        with self._site("undisturbed") as site:
            started, tasks = self._undisturbed(site)
            ended = time.monotonic()
            expected = JobOutcome.of(site.folder)
            timeline = Timeline.read(site.phases)
            self._disk_size = max(_LEAST_DISK, 4 * _bytes_in(site.folder))
        moments = timeline.moments()
        if not timeline.stretches:
            self._say("it tells no phases, as its model is not plugged: faults come at any time")
        self._say(
            f"it took {ended - started:.1f} s, with {', '.join(moments)}; {rounds} rounds, "
            f"seed {seed}\n{rounds_of.HEAD}"
        )
        done = []
        for number, fault in enumerate(draw_faults(rounds, seed, tasks, kinds, moments), 1):
            target = timeline.target(fault.moment, fault.when, started, ended)
            done.append(self._round(number, fault, target, expected))
            self._say(done[-1].line(number))
        return done

    def is_good(self, one: Round) -> bool:
        """Whether a round has ended as it should."""
        return one.is_good(counts_will_do=self._counts_will_do)

    def _undisturbed(self, site: _Site) -> tuple[float, list[str]]:
        """Runs it to its end; returns when its first task was there, and the tasks."""
        run = site.run
        run.start()
        tasks: set[str] = set()
        started = run.began
        until = time.monotonic() + self._limit
        while run.runs and time.monotonic() < until:
            started = started if tasks else time.monotonic()
            tasks |= set(run.tasks())
            run.poll()
            time.sleep(0.1)
        if run.runs:
            raise LaunchError(f"the undisturbed job did not end within {self._limit:g} s")
        if not run.ended_well:
            codes = ", ".join(str(codes[-1]) for codes in run.codes.values())
            raise LaunchError(
                f"the undisturbed job has ended with exit code {codes}: see "
                f"{self._folder}/undisturbed/output"
            )
        return started, sorted(tasks)

    # ------------------------------------------------------------ one round

    def _round(self, number: int, fault: Fault, target: Target, expected: JobOutcome) -> Round:
        with self._site(f"round-{number}", with_disk=fault.kind == "disk-full") as site:
            run = site.run
            run.start()
            with self._struck(site, fault, target) as struck:
                since = time.monotonic()
                hung = run.wait(self._limit, again=fault.kind != "cut-for-good")
            while not run.ended_well and run.may_start:
                run.start()
                hung = run.wait(self._limit, again=True) or hung
            seconds = time.monotonic() - since
            left = left_over(site.folder, _SETTLE_SECONDS)
            verdict = self._verdict(site, number, expected)
            if site.disk is not None:
                home = self._folder / f"round-{number}"
                shutil.copytree(site.folder, home, dirs_exist_ok=True)
        return Round(fault, struck, run.codes, hung, left, verdict, seconds)

    def _verdict(self, site: _Site, number: int, expected: JobOutcome) -> str:
        if not site.run.ended_well:
            return f"never ended well, see {self._folder}/round-{number}/output"
        if site.damage:
            return site.damage[0]
        try:
            found = JobOutcome.of(site.folder)
        except CheckpointError as error:
            return str(error)
        return found.compared_with(expected)

    @contextlib.contextmanager
    def _struck(self, site: _Site, fault: Fault, target: Target) -> Iterator[str]:
        """Waits for the moment, and does the harm; gives the phase in which it came, or ""."""
        pid = self._wait_for(site, fault, target)
        if pid is None:
            yield ""
            return
        with contextlib.ExitStack() as stack:
            mend = self._strike(site, fault, pid, stack)
            phase = Timeline.read(site.phases).now(fault.moment)
            if mend is not None:
                stack.callback(mend)
                time.sleep(fault.seconds)
                stack.pop_all().close()
            yield phase

    def _wait_for(self, site: _Site, fault: Fault, target: Target) -> int | None:
        """Waits for the moment; returns whom to strike then, or None where the job has ended."""
        run = site.run
        came: float | None = None
        while run.runs:
            if came is None and target.place is None:
                here = run.tasks()
                is_here = fault.task in here or (fault.strikes_launcher and here)
                came = time.monotonic() if is_here else None
            elif came is None:
                came = target.begun(Timeline.read(site.phases))
            if came is not None and time.monotonic() >= came + target.delay:
                own = fault.strikes_launcher
                pid = run.launcher_of(fault.task) if own else run.tasks().get(fault.task)
                if pid is not None:
                    return pid
            run.poll()
            time.sleep(_TICK_SECONDS)
        return None

    def _strike(
        self, site: _Site, fault: Fault, pid: int, stack: contextlib.ExitStack
    ) -> Callable[[], None] | None:
        """Does the harm.

        The stack undoes it once the job has ended; what is returned does so where it is for a
        while, and the job goes on.
        """
        if fault.kind == "disk-full":
            full = threading.Thread(target=self._fill, args=(site, fault.seconds))
            stack.callback(full.join)
            full.start()
        elif fault.kind.startswith("cut"):
            hosts, host = self._job.hosts, self._job.host_of(fault.task)
            assert hosts is not None
            hosts.cut(host)
            mend = functools.partial(hosts.mend, host)
            if fault.kind == "cut":
                return mend
            stack.callback(mend)
        else:
            numbers = {"term": signal.SIGTERM, "stop": signal.SIGSTOP, "pause": signal.SIGSTOP}
            _send(pid, numbers.get(fault.kind.removesuffix("-launcher"), signal.SIGKILL))
            if fault.kind == "truncate":
                _cut_in_half(site.folder)
            if fault.kind == "pause":
                return functools.partial(_send, pid, signal.SIGCONT)
        return None

    def _fill(self, site: _Site, seconds: float) -> None:
        """Fills the disk for so long; meanwhile the newest checkpoint must stay whole."""
        assert site.disk is not None
        filling = threading.Thread(target=site.disk.fill, args=(seconds,))
        filling.start()
        while filling.is_alive():
            with contextlib.suppress(CheckpointError, FileNotFoundError):  # or replaced meanwhile
                path, _ = newest_checkpoint(site.folder)
                if damage := damage_of(path):
                    site.damage.append(f"{path.name} was damaged on a full disk: {damage}")
            filling.join(_LOOK_SECONDS)

    # ------------------------------------------------------------ where it takes place

    @contextlib.contextmanager
    def _site(self, name: str, *, with_disk: bool = False) -> Iterator[_Site]:
        """A new working directory and a run there, of which nothing goes on afterwards."""
        home, phases = self._folder / name, self._folder / "phases" / name
        for folder in (home, phases):
            folder.mkdir(0o700, parents=True)
        home = home.resolve()
        with contextlib.ExitStack() as stack:
            disk = stack.enter_context(SmallDisk(home, self._disk_size)) if with_disk else None
            commands = {
                task: tied(command) if disk is None else disk.command(tied(command))
                for task, command in self._job.launchers(phases).items()
            }
            run = JobRun(commands, home / "output", phases.resolve())
            folder = home if disk is None else disk.folder
            try:
                yield _Site(folder, run, phases, disk)
            finally:
                run.kill()
                left_over(folder, _SETTLE_SECONDS)


def _send(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _cut_in_half(folder: Path) -> None:
    with contextlib.suppress(CheckpointError, OSError):
        path = largest_file(newest_checkpoint(folder)[0])
        os.truncate(path, path.stat().st_size // 2)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
