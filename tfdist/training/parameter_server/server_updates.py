"""What a step writes to the variables on parameter servers, each time once.

A step that a lost worker had begun is taken again by another. What it writes comes with the number
of the step (`step_numbers`), and each server makes it only if the number is new:

1. everything that the writes of a step need comes to the server;
2. only then the number is compared with the last one of its slot, and noted, by two operations
   without a stop between them;
3. the writes follow from what is there. A worker that is lost now changes nothing any more:
   TensorFlow ends a program on a server where a tensor does not come, not where none is missing.

So on one server a step is made as a whole or not at all, and a step that some servers have made
and others not is completed by the next worker. What remains: two workers with one step, of which
one had only been silent, must not come to one server within the microseconds between the two
operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import tensorflow as tf

from tfdist.strategies import server_variables
from tfdist.structures import Gradient

__all__ = ["Sent", "ServerUpdates", "by_server"]

Sent = Mapping[str, Sequence[tuple[Gradient, keras.Variable | None]]]
"""For each server the tensors that go there, each with the variable that it is for, if any."""

_MOST = 1 << 16  # writes of one step, one after the other


def by_server(
    pairs: Iterable[tuple[Gradient, keras.Variable]],
) -> dict[str, list[tuple[Gradient, keras.Variable]]]:
    """Sorts tensors and the variables that they are for by where the variables live."""
    found: dict[str, list[tuple[Gradient, keras.Variable]]] = {}
    for tensor, variable in pairs:
        found.setdefault(server_variables.place_of(variable), []).append((tensor, variable))
    return found


class ServerUpdates:
    """Writes to variables on servers while steps are traced.

    Args:
        slots: how many chunks of steps may be under way at once.
        repeatable: whether a write that comes twice may be made twice, as it sets the same: then
            nobody who brings the second takes the first for done that is only begun.
    """

    def __init__(self, slots: int, repeatable: bool = False) -> None:
        self._slots = slots
        self._repeatable = repeatable
        self._last: dict[str, tf.Variable] = {}
        self._ticket: tf.Tensor | None = None
        self._count = 0
        self._is_within = False

    def begin(self, ticket: tf.Tensor | None) -> None:
        """Begins to trace a step.

        Args:
            ticket: its slot and number, int64 of shape (2,); None for a step that nobody takes a
                second time, as its data are gone: its writes are made as they come.
        """
        self._ticket = ticket
        self._count = 0

    @property
    def is_within(self) -> bool:
        """Whether a write is being traced, on its server."""
        return self._is_within

    def write(
        self,
        sent: Sent,
        update: Callable[[str, list[Gradient]], None],
    ) -> None:
        """Sends tensors to servers, and has each write something once.

        Args:
            sent: what each server needs.
            update: writes, given a server and what has come to it, in the same order. It is to
                need nothing else of the worker's, and to write to this server alone.
        """
        number = self._count
        self._count += 1
        if number >= _MOST:
            raise RuntimeError(f"a step of a parameter-server job has more than {_MOST} writes")
        ticket = [] if self._ticket is None else [(self._ticket, None)]
        everything = {place: [*own, *ticket] for place, own in sent.items()}
        tensors = [tensor for own in everything.values() for tensor, _ in own]
        homes = [v if v is not None else p for p, own in everything.items() for _, v in own]
        came = iter(server_variables.to_servers(tensors, homes))
        for place, own in everything.items():
            there = [next(came) for _ in own]
            if self._ticket is None:
                self._make(update, place, there)
            else:
                with tf.device(place):  # the condition's own parts, too, are to be there
                    tf.cond(
                        self._is_new(place, there, number),
                        lambda place=place, there=there: self._make(update, place, there[:-1]),
                        lambda: tf.constant(0),
                    )

    def _is_new(self, place: str, there: Sequence[Gradient], number: int) -> tf.Tensor:
        """Whether a server does not know of this write yet; from then on it does."""
        last = self._last_of(place)
        waited = tf.nest.flatten(there, expand_composites=True)  # also where slices belong
        with tf.device(place):
            slot, step = tf.unstack(there[-1])
            mine = step * _MOST + number
            with tf.control_dependencies([*waited, mine]):
                before = tf.raw_ops.ResourceGather(
                    resource=last.handle, indices=slot, dtype=tf.int64
                )
            tf.raw_ops.ResourceScatterMax(resource=last.handle, indices=slot, updates=mine)
            return before <= mine if self._repeatable else before < mine

    def close(self, step: tf.Tensor) -> list[tf.Operation]:
        """Has all servers take no more writes of a step, in any slot; to be called in a graph.

        Args:
            step: its number, an int64 scalar.
        """
        made = []
        for place, last in self._last.items():
            with tf.device(place):
                highest = tf.fill([self._slots], step * _MOST + (_MOST - 1))
                made.append(
                    tf.raw_ops.ResourceScatterMax(
                        resource=last.handle, indices=tf.range(self._slots), updates=highest
                    )
                )
        return made

    def _make(
        self, update: Callable[[str, list[Gradient]], None], place: str, there: list[Gradient]
    ) -> tf.Tensor:
        self._is_within = True
        try:
            with tf.device(place):
                update(place, there)
                return tf.constant(0)
        finally:
            self._is_within = False

    def _last_of(self, place: str) -> tf.Variable:
        """The number of the last write in each slot, kept by a server."""
        if place not in self._last:
            with tf.init_scope(), tf.device(place):
                self._last[place] = tf.Variable(tf.zeros([self._slots], tf.int64), trainable=False)
        return self._last[place]

    # ------------------------------------------------------------ plain writes

    def add(self, variables: Sequence[keras.Variable], amounts: Sequence[tf.Tensor]) -> None:
        """Adds to variables, each in one indivisible operation: nobody else's addition is lost."""

        def update(variable: tf.Variable, amount: tf.Tensor) -> None:
            variable.assign_add(amount)

        self._each(variables, amounts, update)

    def assign(self, variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
        """Sets variables."""

        def update(variable: tf.Variable, value: tf.Tensor) -> None:
            variable.assign(value)

        self._each(variables, values, update)

    def _each(
        self,
        variables: Sequence[keras.Variable],
        tensors: Sequence[tf.Tensor],
        update: Callable[[tf.Variable, tf.Tensor], None],
    ) -> None:
        own = by_server(zip(tensors, variables, strict=True))

        def all_of(place: str, there: list[Gradient]) -> None:
            for (_, variable), tensor in zip(own[place], there, strict=True):
                update(variable.value, tensor)

        self.write(own, all_of)
