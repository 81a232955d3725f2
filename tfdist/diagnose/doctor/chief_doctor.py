"""The chief's doctor: it waits for those of all tasks, and puts together what they have seen.

worker:1 ──doctor (its facts)──►  │ chief:0
         ◄─clock, three times──►  │            whose clock is off
         ◄──reach, look─────────  │            everybody tries to reach everybody
         ──reached──────────────► │
         ◄──diagnosis───────────  │            whether all is well
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tfdist.cluster import Cluster
from tfdist.cluster.secret import Secret
from tfdist.diagnose.doctor import run_folder
from tfdist.diagnose.doctor.door import Door, Word
from tfdist.diagnose.doctor.host_facts import HostFacts
from tfdist.diagnose.doctor.line import REACH_SECONDS, Caller, Line
from tfdist.diagnose.doctor.visit import Reach, Visit, to_be_reached
from tfdist.errors import ClusterError
from tfdist.rendezvous.handshake import Handshake, plain
from tfdist.rendezvous.messages import Connection, Gone, Message

__all__ = ["ChiefDoctor"]

_PINGS = 3
_ANSWER_SECONDS = 2.0


@dataclass
class ChiefDoctor:
    """Waits for the doctors of a job.

    Attributes:
        cluster: The job; its task is the chief.
        facts: What this doctor has seen itself.
        handshake: Of the chief.
        secret: The job's.
        door: Where the others come to.
        clock: The time of day, in seconds.
    """

    cluster: Cluster
    facts: HostFacts
    handshake: Handshake
    secret: Secret
    door: Door
    clock: Callable[[], float] = time.time
    _colleagues: dict[Connection, str] = field(default_factory=dict, init=False)
    _came: dict[str, tuple[Handshake, HostFacts]] = field(default_factory=dict, init=False)
    _refused: dict[str, None] = field(default_factory=dict, init=False)

    def hold(self, wait: float) -> Visit:
        """Returns what all doctors have seen.

        Args:
            wait: How long to wait for them to come, in seconds.
        """
        begin = time.monotonic()
        self._gather(begin + wait)
        waited = time.monotonic() - begin
        offsets = {name: self._offset(guest) for guest, name in list(self._colleagues.items())}
        reached, folders = self._reach_each_other()
        came = {name: facts for name, (_, facts) in self._came.items()}
        # Of versions, `job_checks` says more.
        specs = (replace(handshake, versions={}) for handshake, _ in self._came.values())
        differences = (one.difference(self.handshake) for one in specs)
        return Visit(
            self.cluster,
            {self.facts.task: self.facts, **came},
            is_whole=True,
            waited=waited,
            offsets={name: seconds for name, seconds in offsets.items() if seconds is not None},
            reached=reached,
            refused=(*self.door.refused, *self._refused),
            unlike=tuple(filter(None, differences)),
            folders=folders,
        )

    def conclude(self, exit_code: int, exchange: float | None) -> None:
        """Tells the other doctors how the job is.

        Args:
            exit_code: What they end with.
            exchange: How long they exchange tensors then, in seconds; None for not at all.
        """
        for guest in list(self._colleagues):
            self._tell(guest, {"say": "diagnosis", "code": exit_code, "exchange": exchange})

    def _gather(self, until: float) -> None:
        own = str(self.cluster.task)
        wanted = {str(task) for task in self.cluster.tasks} - {own}
        for word in self._words(until, lambda: wanted <= {*self._colleagues.values()}):
            if word.message is None:
                self._came.pop(self._colleagues.pop(word.guest, ""), None)
            elif word.message["say"] == "doctor":
                self._receive(word.guest, word.message)

    def _receive(self, guest: Connection, message: Message) -> None:
        handshake = Handshake.from_message(_object(message.get("handshake")))
        try:
            facts = HostFacts.from_message(message.get("facts"))
        except ValueError as error:  # another version of the doctor, most likely
            difference = handshake and handshake.difference(self.handshake)
            self._refuse(guest, difference or f"{guest.peer} came with {error}")
            return
        if handshake is None or handshake.task != facts.task:
            self._refuse(guest, f"{guest.peer} came with a word that is no doctor's")
            return
        try:
            self.cluster.with_task(facts.task)
        except ClusterError as error:
            difference = replace(handshake, versions={}).difference(self.handshake)
            self._refuse(guest, difference or f"{facts.task} ({handshake.who}): {error}")
            return
        before = self._came.get(facts.task)
        first = self.handshake if facts.task == self.handshake.task else before and before[0]
        if first and first.token != handshake.token:
            self._refuse(
                guest,
                f"two processes claim to be {facts.task}: {first.who} and {handshake.who}; start "
                "every task once, each with its own index",
            )
            return
        self._colleagues[guest] = facts.task
        self._came[facts.task] = handshake, facts

    def _refuse(self, guest: Connection, why: str) -> None:
        self._refused[why] = None
        self._tell(guest, {"say": "refused", "text": why})

    def _offset(self, guest: Connection) -> float | None:
        """How far a task's clock is before this one's; None where it does not say."""
        found = []
        for _ in range(_PINGS):
            sent = self.clock()
            self._tell(guest, {"say": "clock"})
            word = self._answer(guest, "clock")
            if word is None or word.message is None:
                break
            here = word.message.get("here")
            if isinstance(here, int | float):
                found.append((word.at - sent, here - (sent + word.at) / 2))
        return min(found)[1] if found else None

    def _answer(self, guest: Connection, said: str) -> Word | None:
        until = time.monotonic() + _ANSWER_SECONDS
        for word in self._words(until, lambda: guest not in self._colleagues):
            if word.guest is guest and word.message and word.message["say"] == said:
                return word
        return None

    def _reach_each_other(self) -> tuple[dict[tuple[str, str], Reach], dict[str, bool]]:
        token = secrets.token_hex(8)
        own = self.facts.task
        with run_folder.left_here(self.facts.folder.path, token):
            for guest in list(self._colleagues):
                self._tell(guest, {"say": "reach", "token": token})
            caller = Caller(self.cluster, self.handshake, self.secret)
            reached = {
                (own, to): reach
                for to, reach in caller.reach_all(to_be_reached(self.cluster, own)).items()
            }
            folders: dict[str, bool] = {}
            until = time.monotonic() + 2 * REACH_SECONDS + _ANSWER_SECONDS
            for word in self._words(until, lambda: {*self._colleagues.values()} <= {*folders}):
                name = self._colleagues.get(word.guest, "")
                if name and word.message and word.message["say"] == "reached":
                    folders[name] = word.message.get("sees") is True
                    for to, told in _object(word.message.get("reached")).items():
                        reached[name, plain(to)] = _reach(told)
        return reached, folders

    def _words(self, until: float, enough: Callable[[], bool]) -> Iterator[Word]:
        """What is said until it is enough; those who go are struck from the list."""
        while not enough():
            try:
                word = self.door.next(until)
            except TimeoutError:
                return
            yield word
            if word.message is None:
                self._colleagues.pop(word.guest, None)

    def _tell(self, guest: Connection, message: Message) -> None:
        try:
            Line(guest).say(message, time.monotonic() + _ANSWER_SECONDS)
        except (Gone, TimeoutError, OSError, ValueError):
            self._colleagues.pop(guest, None)


def _reach(told: Any) -> Reach:
    try:
        outcome, detail, seconds = told
        return Reach(outcome, plain(str(detail), 200), float(seconds))
    except (TypeError, ValueError):
        return Reach("other", "nobody knows what")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
