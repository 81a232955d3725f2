"""A launcher's job that the foreman leads: it starts, ends and starts again as it is told."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfdist.cluster import Cluster, Task
from tfdist.errors import Preempted
from tfdist.launch import announcing
from tfdist.launch.crew.cause import Cause, kind_of, worst_of
from tfdist.launch.crew.foreman_link import ForemanLink
from tfdist.launch.failure import (
    Failure,
    TaskResult,
    describe,
    ended_well_before,
    exit_code,
    find_failure,
    lost_another,
)
from tfdist.launch.ground import Starter
from tfdist.launch.job import Job, Why
from tfdist.launch.plan import JobPlan
from tfdist.rendezvous.messages import Message

__all__ = ["CrewJob"]

_PAUSE_SECONDS = 0.05
_SAVING_SECONDS = 600.0  # for the longest checkpoint


class CrewJob(Job):
    """The tasks of a job that this machine runs, from one generation to the next.

    Args:
        plan: Of all places of this machine, as if all places of the job took part.
        link: The way to the foreman.
        make: Plans the tasks of a generation, for its cluster and this machine's tasks of it.
        beside: Tasks that run beside the places, in every generation: the evaluator.
        options: As for `Job`.
    """

    def __init__(
        self,
        plan: JobPlan,
        link: ForemanLink,
        make: Callable[[Cluster, Sequence[Task]], JobPlan],
        *,
        beside: Sequence[Task] = (),
        **options: Any,
    ) -> None:
        super().__init__(plan, **options)
        self._all_places = [str(task.task) for task in plan.tasks if task.task not in beside]
        self._link = link
        self._make = make
        self._beside = tuple(beside)
        self._orders: deque[Message] = deque()  # that have come
        self._generation = 0
        self._places: dict[str, Task] = {}  # of each task, in this generation
        self._told = ""
        self._end_told: tuple[int, str] | None = None
        self._is_free = False  # the chief has ended well, and nobody leads any more
        self._reported: set[str] = set()
        self._saves = False
        self._is_planned = False  # whether all are to save and end
        self._saving_since = 0.0
        self._hurries = False  # whether all begin again once this generation has ended
        self._has_left = False
        self._is_lost = False  # the way to the foreman has broken, in this generation

    # ------------------------------------------------------------ between generations

    def _next_plan(self, log_dir: Path) -> JobPlan | None:
        if self._processes:
            self._report_the_end()
        self._is_lost = False
        while self._end_told is None and not self._is_free and not self._has_left:
            self._orders.extend(self._link.tick(time.monotonic()))
            while self._orders:
                message = self._orders.popleft()
                if message["say"] == "start":
                    return self._start(message, log_dir)  # what follows is of this generation
                self._obey(message)
            if self._asked:
                self._leave()
            self._display.refresh()
            time.sleep(_PAUSE_SECONDS)
        self._link.close()
        return None

    def _start(self, message: Message, log_dir: Path) -> JobPlan:
        tasks: Mapping[str, str] = message["tasks"]
        self._generation = int(message["generation"])
        self._places = {task: Task.parse(place) for place, task in tasks.items()}
        self._restarts.used = int(message["used"])
        self._told, self._saves, self._is_planned, self._hurries = "", False, False, False
        self._saving_since = 0.0
        self._reported.clear()
        own = [Task.parse(task) for task in tasks.values()]
        plan = self._make(Cluster(message["jobs"]), [*own, *self._beside])
        for place in map(Task.parse, message["again"]):
            if place in self._places.values():
                self._display.say(announcing.back(place, self._restarts))
        self._display.say(announcing.generation(plan, self._places, log_dir))
        return plan

    def _report_the_end(self) -> None:
        results = [self._results[process.name] for process in self._processes]
        causes = self._causes(results)
        failure = find_failure([one for one in results if not self._is_forgiven(one)])
        worst = worst_of(causes)
        as_planned = self._is_planned and worst is not None and worst.kind == "follows"
        if failure is not None and not self._told and not as_planned:
            self._display.say(announcing.result_lines(results, failure))
        self._report("at rest", causes, well=failure is None)

    def _causes(self, results: Sequence[TaskResult]) -> list[Cause]:
        """Why tasks have ended, apart from those that we have ended ourselves."""
        causes = []
        for result in results:
            ended_by_us = result.stopped and exit_code(result) == 128 - result.returncode
            if result.returncode == 0 or ended_by_us or self._is_forgiven(result):
                continue
            kind = kind_of(
                exit_code(result),
                by_signal=bool(result.lost) or (result.returncode < 0 and not result.stopped),
                follows=lost_another(result),
            )
            if kind == "follows" and ended_well_before(result, results):
                kind = "hopeless"  # they did not do the same, and would not the next time
            place = self._places.get(str(result.task))
            text = f"{self._name(result)} {describe(result)}"
            causes.append(Cause(kind, exit_code(result), text, place))
        return causes

    def _name(self, result: TaskResult) -> str:
        place = self._places.get(str(result.task), result.task)
        return result.name if place == result.task else f"{place} (now {result.name})"

    def _report(self, say: str, causes: Sequence[Cause], *, well: bool = False) -> None:
        self._link.say(
            {
                "say": say,
                "generation": self._generation,
                "causes": [one.to_tree() for one in causes],
                "well": well,
            }
        )

    # ------------------------------------------------------------ while a generation runs

    def _look_around(self) -> None:
        super()._look_around()
        # A lost foreman is looked for again once all that it had started has ended.
        alone = self._is_lost or self._is_free or self._end_told is not None
        self._orders.extend(() if alone else self._link.tick(time.monotonic()))
        while self._orders:
            self._obey(self._orders.popleft())
        new = [one for name, one in self._results.items() if name not in self._reported]
        self._reported.update(str(one.task) for one in new)
        bad = [one for one in new if not self._is_replaceable(one) and not self._ending]
        if causes := self._causes(bad):
            self._report("failed", causes)
        saves = any(process.saves for process in self._processes)
        if saves != self._saves:
            self._saves = saves
            self._link.say({"say": "saves", "yes": saves})
        if self._asked:
            self._leave()

    def _replace_lost_workers(self, starter: Starter) -> None:
        used = self._restarts.used
        super()._replace_lost_workers(starter)
        for _ in range(self._restarts.used - used):
            self._link.say({"say": "replaced"})

    def _is_replaceable(self, result: TaskResult) -> bool:
        """As for any job, but who ends as all save has not been lost."""
        saved = self._is_planned and result.returncode == Preempted.exit_code
        return not saved and super()._is_replaceable(result)

    def _decide_by_results(self, now: float) -> None:
        """As for any job, but to save and end is no failure, and takes the time that it takes."""
        bad = [result for result in self._results.values() if result.returncode]
        if self._is_planned and all(one.returncode == Preempted.exit_code for one in bad):
            left = [one for one in self._processes if not one.gone]
            if bad and left and all(one.task in self._beside for one in left):
                self._told = "all have saved"  # and the evaluator would wait for more
                self._end("told", left, signal.SIGTERM, now)
                return
            self._saving_since = self._saving_since or now
            if now < self._saving_since + _SAVING_SECONDS:
                return
        super()._decide_by_results(now)

    def _goes_on(self) -> bool:
        return self._hurries

    def _obey(self, message: Message) -> None:
        say, text = message["say"], str(message.get("text", ""))
        if say == "lost" and (self._is_free or self._end_told is not None):
            return  # it has gone after its last word, which came together with this
        if say == "note":
            self._display.say(text)
        elif say == "hurry":
            self._hurries = True
        elif say == "count":
            self._restarts.used = int(message["used"])
        elif say in ("save", "saving"):
            self._is_planned = True
            for process in self._processes if say == "save" else ():
                if process.task == self.plan.cluster.chief:
                    process.ask_to_end()
        elif say == "free":
            self._is_free = True
            self._link.close()
        elif say in ("halt", "lost", "end"):
            self._told, self._is_lost = text, say == "lost"
            self._hurries |= self._is_lost
            if say == "end":
                self._link.close()
                self._end_told = (int(message["code"]), text)
            if not self._ending and any(not process.gone for process in self._processes):
                self._end("told", self._processes, signal.SIGTERM, time.monotonic())
            elif say == "lost":
                self._display.say(text)

    def _leave(self) -> None:
        if self._has_left or self._end_told is not None or self._is_free:
            return
        signum = self._asked[0]
        name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        places = ", ".join(self._all_places)
        self._has_left = True
        self._link.say({"say": "leave", "code": 128 + signum, "text": f"{name} at {places}"})

    def _say_why(self, why: Why, signum: int, running: Sequence[str]) -> None:
        if why == "told":
            self._display.say(announcing.told(self._told, running, self.grace))
        else:
            super()._say_why(why, signum, running)

    # ------------------------------------------------------------ the end

    def _verdict(self, tasks: Sequence[TaskResult]) -> tuple[Failure | None, int]:
        failure, code = super()._verdict(tasks)
        if self._ending == "signal":
            return failure, code
        if self._end_told is not None:
            told, text = self._end_told
            saved = any(one.returncode == Preempted.exit_code for one in tasks)
            ended = told > 128 and saved
            code = Preempted.exit_code if ended else told
            if text:
                self._display.say(f"the job has ended: {text}")
        elif self._has_left and self._asked:
            code = 128 + self._asked[0]
        return None, code
