"""The foreman: which places take part in a job's next generation, and when a generation ends.

    gathering ──► training ──► ending ──► gathering ──► ...
        │  not enough  │ all ended well     │ no restarts left, nobody to go on with, hopeless
        └──────────────┴────────────────────┴──► over

A *place* is a task of the whole cluster, with its address; a launcher brings one or more. Those
that take part are numbered anew, without gaps: place worker:2 may be task worker:1.

    elastic job     a lost worker       the others go on at once; it comes back after the settling
                                        time, at a border, if a restart is left
                    a host that comes   is taken in at a border, once the settling time has passed
                    a host that goes    (SIGTERM, Ctrl-C) all save first; the others go on
    job of one      a lost task         all begin again once every place is there, as one restart
    size            a host that goes    ends the job for all
    with servers    a lost worker host  the others go on; it comes back as soon as it is there
                    a lost ps           as a lost worker of an elastic job, where their number may
                                        change; else all begin again
    all             an error (exit 1)   all begin again, as one restart, if these were asked for

At a border means that all tasks save and end with exit code 75 (`Preempted`), so no step is taken
twice. Where they cannot save, nobody is taken in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tfdist.cluster import Task
from tfdist.errors import RendezvousError, TaskLost
from tfdist.launch.crew.cause import Cause, worst_of
from tfdist.launch.crew.generation import Generation
from tfdist.launch.crew.muster import Muster
from tfdist.launch.crew.roll import OWN, Launcher, Roll, wanted_alike
from tfdist.launch.crew.strength import Strength
from tfdist.launch.restarts import Restarts
from tfdist.rendezvous.messages import Message

__all__ = ["Foreman"]

_ASK_AGAIN_SECONDS = 60.0
_FROM_THE_BEGINNING = (
    "from the script's beginning: no fit with tfdist.callbacks.Checkpoint has run yet"
)


@dataclass
class Foreman:
    """Decides for all launchers of a job.

    Attributes:
        strength: All places, and how many of them take part.
        restarts: Those of the job.
        settle: Seconds; see `DEFAULT_SETTLE`.
        patience: Seconds for which it is waited for those who are missing.
        now: The time at which the job begins, on the clock of `time.monotonic`.
        orders: What is to be told to whom, in order; whoever delivers them empties it.
        notes: What the chief's launcher is to show.
    """

    strength: Strength
    restarts: Restarts
    settle: float
    patience: float
    now: float
    orders: list[tuple[str, Message]] = field(default_factory=list, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    phase: Literal["gathering", "training", "ending", "over"] = field(
        default="gathering", init=False
    )

    def __post_init__(self) -> None:
        cluster = self.strength.cluster
        wants = wanted_alike(self.strength, self.restarts.most)
        self._roll = Roll(cluster.tasks_that_meet, wants)
        self._muster = Muster(self.strength, self._roll, self.restarts)
        self._causes: list[Cause] = []
        self._generation = Generation()
        self._away: set[Task] = set()  # of lost hosts, without which this generation goes on
        self._planned = False  # whether this generation's end was asked for
        self._well = False
        self._told_of_no_border = False
        self._saved = False  # whether tasks have ever trained with a checkpoint
        self._changed = self._begun = self._asked = self.now
        self._settled = self.now + self.settle

    # ------------------------------------------------------------ what happens

    def hear(self, who: str, message: Message) -> None:
        """Takes in what a launcher reports.

        Args:
            who: Which launcher.
            message: What it says; one that makes no sense is passed over.
        """
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            self._hear(who, message)

    def _hear(self, who: str, message: Message) -> None:
        if message["say"] == "join":
            self._roll.come(who, message, self.now)
            self._admit()
            return
        launcher = self._roll.launchers.get(who)
        if launcher is None:
            return
        launcher.heard = self.now
        is_of_now = message.get("generation") == self._generation.number
        if message["say"] == "saves":
            launcher.saves = bool(message["yes"])
            self._saved |= launcher.saves
        elif message["say"] == "replaced":
            self.restarts.used += 1
            self._tell_all({"say": "count", "used": self.restarts.used})
        elif message["say"] == "leave":
            self._leave(who, launcher, str(message["text"])[:2000], int(message["code"]))
        elif message["say"] in ("failed", "at rest") and is_of_now:
            causes = [Cause.from_tree(one) for one in message["causes"]]
            if message["say"] == "failed":
                self._stop_for(causes, who)
            elif launcher.runs:
                launcher.runs = launcher.saves = False
                self._ended(who, causes, bool(message["well"]))

    def gone(self, who: str) -> None:
        """Takes note that a launcher is lost: it has closed its connection, or is silent."""
        launcher = self._roll.go(who)
        if launcher is None or self.phase == "over":
            return
        names = ", ".join(map(str, launcher.places))
        if launcher.leaves:
            self.notes.append(f"{names} ({launcher.where}) has left")
        elif launcher.runs:
            text = f"the launcher of {names} ({launcher.where}) is gone"
            if self._is_spared(launcher):
                self._away.update(launcher.places)
                self.notes.append(f"{text}: the others go on without it, and it may come back")
                return
            cause = Cause("lost", TaskLost.exit_code, text)
            self._causes.append(cause)
            self._stop_for([cause], who)
        self._changed = self.now

    def _is_spared(self, lost: Launcher) -> bool:
        """Whether others do a lost host's work, as workers of parameter servers do."""
        workers = {
            place
            for one in (lost, *self._roll.launchers.values())
            for place in one.places
            if place.type == "worker" and one.runs
        }
        places = set(lost.places)
        has_servers = "ps" in self.strength.cluster.jobs
        return has_servers and self.phase == "training" and places < workers

    def tick(self, now: float) -> None:
        """Decides what time decides.

        Args:
            now: On the clock of `time.monotonic`.
        """
        self.now = now
        self._admit()
        if self.phase == "gathering":
            self._gather()
        elif self.phase != "over" and not any(one.runs for one in self._roll.launchers.values()):
            self._conclude()
        elif self.phase == "training":
            self._take_back()
            self._take_in()

    # ------------------------------------------------------------ who is here

    def missing(self) -> tuple[Task, ...]:
        """The places whose launchers are waited for, since the job cannot go on without."""
        return self._muster.missing(self.now) if self.phase == "gathering" else ()

    def _admit(self) -> None:
        """Lets in who has come."""
        answers = self._roll.admit(self.now)
        for who, text in answers.refused.items():
            self._order(who, {"say": "end", "code": 64, "text": text, "well": False})
        for who in answers.replaced:
            self.gone(who)
        for who, text in answers.admitted.items():
            self._changed = self.now
            if self.phase == "over":
                self._order(who, {"say": "end", "code": 0, "text": ""})
            elif who != OWN:
                self.notes.append(text)

    def _leave(self, who: str, launcher: Launcher, text: str, code: int) -> None:
        launcher.leaves = True
        if who == OWN or not all(map(self.strength.may_lack, launcher.places)):
            self._end(code, text)
        elif self.phase == "training" and launcher.runs:
            self._planned, self._asked = True, self.now
            self._tell_all({"say": "saving"})
            enough = self.strength.is_enough(self._muster.ready(self.now))
            then = "the others go on" if enough else "wait for others to come"
            self.notes.append(f"{text}: all save, and {then}")

    # ------------------------------------------------------------ a generation begins

    def _gather(self) -> None:
        ready = self._muster.ready(self.now)
        enough = self.strength.is_enough(ready)
        if self.strength.is_full(ready) or (enough and self.now >= self._settled):
            self._start(ready)
        elif not enough and not self._muster.may_come(self.now):
            self._end_by_causes()
        elif not enough and self.now > self._begun + self.patience:
            at = self.strength.cluster.address
            names = ", ".join(f"{one} ({at(one)})" for one in self.missing())
            text = (
                f"not all came within {self.patience:g} s: no launcher of {names}; start it there, "
                "with the same options"
            )
            self._end((TaskLost if self._generation.number else RendezvousError).exit_code, text)

    def _start(self, members: tuple[Task, ...]) -> None:
        again = self._muster.begin(members)
        self._generation = self._generation.next(self.strength.cluster, members)
        self._causes, self._away = [], set()
        self._planned, self._well = False, False
        self.phase, self._changed = "training", self.now
        for who, launcher in self._roll.launchers.items():
            self._start_at(who, launcher, again)

    def _start_at(self, who: str, launcher: Launcher, again: Sequence[Task] = ()) -> None:
        order = self._generation.start(launcher.places, self.restarts.used, again)
        launcher.runs = order is not None
        if order is not None:
            self._order(who, order)

    def _take_back(self) -> None:
        """Has hosts without which the job went on start their tasks."""
        own = self._roll.launchers.get(OWN)
        if self._planned and own is not None and own.saves:
            return  # all are about to end; they take part in what begins then
        for who, launcher in self._roll.launchers.items():
            if self._away.issuperset(launcher.places) and not launcher.leaves:
                self._away.difference_update(launcher.places)
                self._start_at(who, launcher)

    # ------------------------------------------------------------ a generation ends

    def _take_in(self) -> None:
        """Has all save and end where there are places that could take part."""
        own = self._roll.launchers.get(OWN)
        if own is None or not own.runs or self.strength.is_fixed:
            return
        if self._planned:
            if own.saves and self.now > self._asked + _ASK_AGAIN_SECONDS:
                self._ask_to_save()  # between two fits nobody has heard it
            return
        members, ready = self._generation.members, self._muster.ready(self.now)
        there = [place for place in members if place not in self._away]
        new = [
            one for one in ready if one not in members and self.strength.has_room_for(one, there)
        ]
        due = self._changed + self.settle
        if not new or self.now < due or not self.strength.is_enough(ready):
            return
        names = ", ".join(map(str, new))
        if own.saves:
            self._planned = True
            self._ask_to_save()
            how_many = self.strength.told(ready, "instead of", there)
            self.notes.append(f"{names} can take part: all save, and go on with {how_many}")
        elif not self._told_of_no_border and self.now > due + self.settle:
            self._told_of_no_border = True
            self.notes.append(
                f"{names} can take part once a fit with tfdist.callbacks.Checkpoint runs: only "
                "there can a job change its workers without losing work"
            )

    def _ask_to_save(self) -> None:
        self._asked = self.now
        self._tell_all({"say": "save"})

    def _stop_for(self, causes: Sequence[Cause], who: str) -> None:
        """Ends what the others run, unless it is what was asked for."""
        worst = worst_of(causes)
        expected = self._planned and (worst is None or worst.kind == "follows")
        if worst is None or expected or self.phase != "training":
            return
        self.phase = "ending"
        for other, launcher in self._roll.launchers.items():
            if other != who and launcher.runs:
                self._order(other, {"say": "halt", "text": worst.text})
            if launcher.runs and self._will_go_on(worst):
                self._order(other, {"say": "hurry"})

    def _ended(self, who: str, causes: list[Cause], well: bool) -> None:
        self._causes += causes
        if well:
            self._well = True
            if who == OWN:
                self._be_done()
                return
        self._stop_for(causes, who)
        if not any(one.runs for one in self._roll.launchers.values()):
            self.phase = "ending"

    def _be_done(self) -> None:
        """The chief has ended well: whoever still runs ends by itself."""
        self.phase = "over"
        for who, launcher in self._roll.launchers.items():
            say = {"say": "free"} if launcher.runs else {"say": "end", "code": 0, "text": ""}
            self._order(who, {**say, "well": True})

    def _conclude(self) -> None:
        """Decides how it goes on, once nobody runs anything."""
        worst = worst_of(self._causes)
        lost = [one for one in self._causes if one.kind == "lost"]
        self.phase, self._begun, self._settled = "gathering", self.now, self.now
        if worst is None:
            self._be_done()
        elif self._planned and worst.kind == "follows":
            pass  # all have saved
        elif worst.kind == "hopeless" or self._well:
            self._end(worst.code, worst.text)
        elif lost and worst.kind == "lost" and not self.strength.is_fixed:
            for cause in lost:
                if cause.place is not None:
                    self._muster.rest(cause.place, self.now + self.settle)
            self._tell_of_loss(lost)
        elif self._is_mended(worst):
            self.restarts.used += 1
            count = f"({self.restarts.used} of {self.restarts.most})"
            self.notes.append(f"{worst.text}; starting all tasks again {count}")
        else:
            self._end(worst.code, worst.text)

    def _will_go_on(self, worst: Cause) -> bool:
        """Whether another generation will probably follow."""
        mended = worst.kind != "hopeless" and self._is_mended(worst)
        return mended or (worst.kind == "lost" and not self.strength.is_fixed)

    def _is_mended(self, worst: Cause) -> bool:
        elastic = not self.strength.is_fixed and worst.kind in ("lost", "follows")
        asked = self.restarts.asked_for or elastic
        return asked and self.restarts.used < self.restarts.most

    def _tell_of_loss(self, lost: Sequence[Cause]) -> None:
        ready = self._muster.ready(self.now)
        if self.strength.is_enough(ready):
            said = "; ".join(dict.fromkeys(one.text for one in lost))
            how = "from the last checkpoint" if self._saved else _FROM_THE_BEGINNING
            if not self.restarts.left and any(one.place for one in lost):
                how += "; no restart is left for who was lost"
            there = self.strength.told(ready, "of", self._generation.members)
            self.notes.append(f"{said}: going on with {there}, {how}")

    def _end_by_causes(self) -> None:
        worst = worst_of(self._causes)
        text = f"{worst.text}, and " if worst else ""
        code = worst.code if worst else TaskLost.exit_code
        few = (
            self.strength.lacking(self._muster.fit(self.now))
            or "no task of the chief's launcher is left"
        )
        self._end(code, f"{text}{few}")

    def _end(self, code: int, text: str) -> None:
        if self.phase != "over":
            self.phase = "over"
            self._tell_all({"say": "end", "code": code, "text": text, "well": False})

    def _tell_all(self, message: Message) -> None:
        for who in self._roll.launchers:
            self._order(who, message)

    def _order(self, who: str, message: Message) -> None:
        self.orders.append((who, message))
