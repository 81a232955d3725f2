"""What a chunk of training steps holds while workers have it, and gives back when it has come.

Its slot on the servers (`step_numbers`) and its part of the bound on staleness (`staleness_bound`).
Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tfdist.training.parameter_server.staleness_bound import StalenessBound
from tfdist.training.parameter_server.step_numbers import StepNumbers

__all__ = ["ChunkTicket", "ChunkTickets"]


@dataclasses.dataclass(frozen=True)
class ChunkTicket:
    """One chunk under way.

    Attributes:
        steps: how many it was handed out for.
        number: of the bound; None where the steps do not train.
        slot: on the servers; None where no update can come twice.
        first: number of its first step, with a slot.
    """

    steps: int
    number: int | None = None
    slot: int | None = None
    first: int | None = None


class ChunkTickets:
    """Hands out tickets, and takes each of them back once.

    Args:
        numbers: slots and the numbers of steps.
        bound: on what an update may miss.
    """

    def __init__(self, numbers: StepNumbers, bound: StalenessBound) -> None:
        self._numbers, self._bound = numbers, bound
        self._out: set[ChunkTicket] = set()

    @property
    def has_room(self) -> bool:
        """Whether there is a slot for one more chunk."""
        return self._numbers.has_room

    def steps(self) -> int | None:
        """Returns how many steps may be handed out as one chunk now; None for any number."""
        return self._bound.steps()

    def take(self, steps: int, slot: bool) -> ChunkTicket:
        """Returns the ticket of a chunk of training steps, with a slot where there is to be one."""
        place, first = self._numbers.take(steps) if slot else (None, None)
        ticket = ChunkTicket(steps, self._bound.begin(steps), place, first)
        self._out.add(ticket)
        return ticket

    def give_back(self, tickets: Iterable[ChunkTicket]) -> None:
        """Notes that chunks have come back, or never will; what was given back before stays so."""
        for ticket in self._out.intersection(tickets):
            self._out.discard(ticket)
            self._bound.end([ticket.number] if ticket.number is not None else [])
            self._numbers.give_back([ticket.slot] if ticket.slot is not None else [])
