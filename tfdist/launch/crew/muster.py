"""Who can take part in a job's next generation: who is here, and who was lost and may come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tfdist.cluster import Task
from tfdist.launch.crew.roll import Roll
from tfdist.launch.crew.strength import Strength
from tfdist.launch.restarts import Restarts

__all__ = ["Muster"]


@dataclass
class Muster:
    """The places of a job, of which some have been lost.

    A place that was lost rests, and comes back by one of the job's restarts: those first without
    whom nobody can go on, and these at once.

    Attributes:
        strength: How many of them take part.
        roll: Whose launchers are here.
        restarts: Those of the job.
    """

    strength: Strength
    roll: Roll
    restarts: Restarts
    _resting: dict[Task, float] = field(default_factory=dict, init=False)  # until when

    def rest(self, place: Task, until: float) -> None:
        """Takes note that a place was lost.

        Args:
            place: Which.
            until: When it may come back.
        """
        self._resting[place] = until

    def begin(self, members: Sequence[Task]) -> list[Task]:
        """Takes note that these take part.

        Returns:
            Those of them that had been lost, each of which is a restart.
        """
        again = [place for place in members if place in self._resting]
        self.restarts.used += len(again)
        for place in again:
            del self._resting[place]
        return again

    def ready(self, now: float) -> tuple[Task, ...]:
        """Those that would take part now, in the cluster's order; none without the chief's host.

        Args:
            now: The time.
        """
        fit = self.fit(now)
        if not fit.intersection(self.roll.own()):
            return ()  # the chief is there, and perhaps the checkpoints only there
        return self.strength.chosen(fit)

    def fit(self, now: float) -> set[Task]:
        """The places here that have not been lost, or may come back now."""
        fit = {place for place in self.roll.here(now) if place not in self._resting}
        left = self.restarts.left - self._take_needed(fit, now)
        rested = [one for one in self._rest(now) if one not in fit and now >= self._resting[one]]
        return fit | set(rested[:left])

    def may_come(self, now: float) -> bool:
        """Whether there may be enough of them, sooner or later."""
        own = self.roll.own()
        lasting = set(self.roll.places).difference(self._rest(now))
        self._take_needed(lasting, now)
        leads = not own or bool(lasting.intersection(own))
        return leads and self.strength.is_enough(lasting)

    def missing(self, now: float) -> tuple[Task, ...]:
        """The places whose launchers are waited for, where there are too few to begin."""
        if self.strength.is_enough(self.ready(now)):
            return ()
        missing, fit = self.roll.missing(), self.fit(now)
        needed = [one for one in missing if self.strength.is_short_of(one.type, fit)]
        return tuple(needed) or missing

    def _rest(self, now: float) -> list[Task]:
        """The places here that were lost, the first of them first."""
        rest = [place for place in self.roll.here(now) if place in self._resting]
        return sorted(rest, key=lambda place: self._resting[place])

    def _take_needed(self, fit: set[Task], now: float) -> int:
        """Adds lost places without which nobody can go on, as far as there are restarts.

        Returns:
            How many.
        """
        own, taken = self.roll.own(), 0
        for place in self._rest(now):
            short = self.strength.is_short_of(place.type, fit)
            leads = place in own and not fit.intersection(own)
            if taken < self.restarts.left and (short or leads):
                fit.add(place)
                taken += 1
        return taken
