"""Which launchers of a job are here, and which places each has brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfdist.cluster import Task
from tfdist.launch.crew.strength import Strength
from tfdist.rendezvous.messages import Message
from tfdist.version import __version__

__all__ = ["OWN", "Answers", "Launcher", "Roll", "wanted_alike"]

OWN = "the chief's launcher"
"""The name of the launcher in which the foreman is."""

_SILENT_SECONDS = 3.0  # with whom was not heard of for so long, nothing is begun
_REJOIN_SECONDS = 3.0  # so long a place's launcher has to show that it lives, if another one comes


def wanted_alike(strength: Strength, max_restarts: int) -> dict[str, Any]:
    """What all launchers of a job must have alike, by name.

    Args:
        strength: The whole job, and how many of it take part.
        max_restarts: How many restarts it has.
    """
    return {
        "version of tfdist": __version__,
        "cluster": strength.cluster.digest(),
        "size": {job: [size.least, size.most] for job, size in strength.ranges.items()},
        "max_restarts": max_restarts,
    }


@dataclass
class Launcher:
    """A launcher that is here.

    Attributes:
        where: Its process and host.
        token: Random, its own.
        places: That it has brought.
        heard: When something was heard of it.
        runs: Whether tasks of the generation run there.
        saves: Whether these would save if they were asked to end.
        leaves: Whether it goes once they have ended.
    """

    where: str
    token: str
    places: tuple[Task, ...]
    heard: float
    runs: bool = False
    saves: bool = False
    leaves: bool = False

    @property
    def names(self) -> str:
        """Its places."""
        return ", ".join(map(str, self.places))


@dataclass
class Answers:
    """What comes of those who asked to be let in.

    Attributes:
        admitted: Who is let in now, in words.
        refused: Who is not, and why.
        replaced: Whose place has gone to the same launcher, come by another way.
    """

    admitted: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)


@dataclass
class Roll:
    """The launchers of a job.

    Attributes:
        places: Of the whole job, in order.
        wants: What all launchers must have been given alike, by name.
        launchers: Those that are here.
    """

    places: tuple[Task, ...]
    wants: Mapping[str, Any]
    launchers: dict[str, Launcher] = field(default_factory=dict, init=False)
    _asking: dict[str, tuple[Launcher, float]] = field(default_factory=dict, init=False)
    _unfit: dict[str, str] = field(default_factory=dict, init=False)

    def come(self, who: str, message: Message, now: float) -> None:
        """Takes note that a launcher asks to be let in; see `admit`.

        Args:
            who: Its name.
            message: What it says of itself.
            now: When.
        """
        places = tuple(Task.parse(str(name)) for name in message["places"])
        if reason := self._unfitness(message["wants"], places):
            self._unfit[who] = reason
            return
        where = f"process {int(message['pid'])} on {str(message['host'])[:255]}"
        self._asking[who] = (Launcher(where, str(message["token"]), places, now), now)

    def go(self, who: str) -> Launcher | None:
        """Takes note that a launcher is gone; returns it if it was let in."""
        self._asking.pop(who, None)
        return self.launchers.pop(who, None)

    def admit(self, now: float) -> Answers:
        """Lets in those whose places are free. One who lives keeps his place.

        Args:
            now: The time.
        """
        answers = Answers(refused=dict(self._unfit))
        self._unfit.clear()
        for who, (launcher, since) in list(self._asking.items()):
            holders = [
                (name, one)
                for name, one in self.launchers.items()
                if set(one.places) & set(launcher.places)
            ]
            if any(one.token != launcher.token for _, one in holders):
                lively = [one for _, one in holders if one.heard > since]
                if lively and now > since + _REJOIN_SECONDS:
                    del self._asking[who]
                    text = f"{launcher.names} is here already ({lively[0].where})"
                    answers.refused[who] = text
                continue
            del self._asking[who]
            answers.replaced += [name for name, _ in holders]
            launcher.heard = now
            self.launchers[who] = launcher
            answers.admitted[who] = f"{launcher.names} ({launcher.where}) is here"
        return answers

    def here(self, now: float) -> list[Task]:
        """The places whose launchers answer and stay, in order."""
        here = {
            place
            for one in self.launchers.values()
            if not one.leaves and now < one.heard + _SILENT_SECONDS
            for place in one.places
        }
        return [place for place in self.places if place in here]

    def own(self) -> tuple[Task, ...]:
        """The places of the chief's launcher."""
        own = self.launchers.get(OWN)
        return () if own is None or own.leaves else own.places

    def missing(self) -> tuple[Task, ...]:
        """The places that nobody has brought."""
        there = {place for one in self.launchers.values() for place in one.places}
        return tuple(place for place in self.places if place not in there)

    def _unfitness(self, wants: Mapping[str, Any], places: Sequence[Task]) -> str:
        for name, mine in self.wants.items():
            if wants.get(name) != mine:
                return (
                    f"another {name} ({wants.get(name)}) than the chief's launcher ({mine}): start "
                    "every host's launcher with the same cluster and options"
                )
        unknown = [str(place) for place in places if place not in self.places]
        return f"{', '.join(unknown)} in no place of the cluster" if unknown else ""
