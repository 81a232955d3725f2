"""What a chunk of steps holds is given back once, whichever way it ends."""

from __future__ import annotations

from tfdist.training.parameter_server.chunk_tickets import ChunkTicket, ChunkTickets
from tfdist.training.parameter_server.staleness_bound import StalenessBound
from tfdist.training.parameter_server.step_numbers import StepNumbers


def tickets(slots: int = 2, most: int | None = 8) -> ChunkTickets:
    return ChunkTickets(StepNumbers(slots), StalenessBound(most, 1))


def test_a_ticket_holds_a_slot_and_a_part_of_the_bound_until_it_is_given_back() -> None:
    given = tickets(slots=1)
    assert given.steps() == 2
    one = given.take(8, slot=True)
    assert (one.slot, one.first) == (0, 1)
    # Whatever is handed out now would miss these eight.
    assert (given.has_room, given.steps()) == (False, 0)
    given.give_back({one})
    assert (given.has_room, given.steps()) == (True, 2)


def test_what_is_given_back_twice_frees_one_slot() -> None:
    given = tickets()
    one, two = given.take(1, slot=True), given.take(1, slot=True)
    given.give_back({one})
    given.give_back({one, two})  # as an error ends the queue of both
    assert {given.take(1, slot=True).slot, given.take(1, slot=True).slot} == {0, 1}
    assert not given.has_room


def test_steps_on_workers_own_data_need_no_slot() -> None:
    given = tickets(slots=1)
    one = given.take(3, slot=False)
    assert one.slot is None
    assert given.has_room
    given.give_back({one})
    assert given.take(1, slot=True).slot == 0


def test_a_chunk_that_does_not_train_holds_nothing() -> None:
    given = tickets(slots=1)
    given.take(1, slot=True)
    given.give_back({ChunkTicket(1)})
    assert not given.has_room
