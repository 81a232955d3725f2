"""A Python generator, which gives each batch once, though several passes read it, and ahead.

What an iterator has read ahead is gone with it, and how much that is, only the time tells: another
number on every worker. Here it stays until a step takes it, for whoever reads the generator next:
the validation of the next epoch, another `fit`, `evaluate` or `predict`. All of them together get
the batches that one loop of `next(generator)` would.
"""

from __future__ import annotations

import itertools
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from tfdist import log

__all__ = ["GeneratorBatches"]


class _Ahead:
    """What was read of one generator and not yet taken, by its numbers.

    Attributes:
        reading: held by the thread that asks the generator.
        batches: that were read and not taken.
        read: how many were, ever.
        taken: how many were.
        ended: whether the generator has; by `error`, if that is not None.
        last_pass: the only one that goes on.
    """

    def __init__(self) -> None:
        self.reading = threading.Lock()
        self.batches: dict[int, Any] = {}
        self.read = 0
        self.taken = 0
        self.ended = False
        self.error: Exception | None = None
        self.last_pass: object = None
        self._told = False

    def find(self, number: int, generator: Iterator[Any]) -> tuple[Any, ...]:
        """Returns the batch of this number, reading on until it is there; () if it never will be.

        Raises:
            Exception: the generator has raised it before that batch.
        """
        while self.read <= number and not self.ended:
            try:
                batch = next(generator)
            except StopIteration:
                self.ended = True
            except Exception as error:  # for the step that would have taken the batch
                self.ended, self.error = True, error
            else:
                if self.read >= self.taken:
                    self.batches[self.read] = batch
                self.read += 1
        if number >= self.read and self.error is not None:
            raise self.error
        return (self.batches[number],) if number in self.batches else ()

    def take(self, count: int) -> None:
        """Lets go of the next ones; those that are not read yet will be thrown away."""
        self.taken += count
        for number in [number for number in self.batches if number < self.taken]:
            del self.batches[number]

    def warn(self) -> None:
        """Tells, once, that nothing is left for a pass."""
        if not self._told:
            self._told = True
            log.warning(
                "the generator has ended, and another pass over it finds nothing: let it go on "
                "(while True) and give the steps of a pass, or give a dataset, which begins anew"
            )


_ahead: weakref.WeakKeyDictionary[Any, _Ahead] = weakref.WeakKeyDictionary()


class GeneratorBatches:
    """What one stream reads of a generator; other streams may read it, too, in turns.

    Args:
        generator: of batches.
    """

    def __init__(self, generator: types.GeneratorType[Any, Any, Any]) -> None:
        self._generator = generator
        self._ahead = _ahead.setdefault(generator, _Ahead())
        self._pass = object()

    def peek(self) -> Iterator[Any]:
        """Shows the next batches, which nobody takes by that."""
        first = self._ahead.taken
        for number in itertools.count(first):
            try:
                found = self._find(number)
            except Exception:
                if number > first:
                    return  # it is for the step that would take this one
                raise
            if not found:
                return
            yield found[0]

    def begin(self) -> None:
        """Begins a pass: `batches`, called next, are its, and another pass gets no more.

        It waits for the batch that such a pass is reading: threads of TensorFlow never wait for one
        another here, as the generator itself may need them.
        """
        with self._ahead.reading:
            self._pass = self._ahead.last_pass = object()

    @property
    def go_on(self) -> bool:
        """Whether no other stream has begun a pass since this one has."""
        return self._ahead.last_pass is self._pass

    def batches(self) -> Iterator[Any]:
        """The batches of the pass that has begun, for the threads of a dataset to read ahead."""
        own, first = self._pass, self._ahead.taken
        number = first
        while found := self._find(number, own):
            yield found[0]
            number += 1
        if number == first and self.go_on:
            self._ahead.warn()

    @property
    def source(self) -> Callable[[], Iterator[Any]]:
        """`batches`, for a dataset: TensorFlow keeps its functions, and they not the generator."""
        method = weakref.WeakMethod(self.batches)

        def read() -> Iterator[Any]:
            batches = method()
            return iter(()) if batches is None else batches()

        return read

    def took(self, count: int) -> None:
        """Notes that steps have taken the next batches, here or in the run that is resumed."""
        self._ahead.take(count)

    def _find(self, number: int, own: object = None) -> tuple[Any, ...]:
        with self._ahead.reading:
            if own is not None and self._ahead.last_pass is not own:
                return ()
            return self._ahead.find(number, self._generator)
