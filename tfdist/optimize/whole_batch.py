"""The loss of all data and its gradient: one pass, in portions that workers take as they are free.

Portions are summed in one order (`portion_sums`), so that the loss and the gradient have the same
bits whoever computed which portion, and however often. Only scalars and the data pass through here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdist.errors import DataError
from tfdist.optimize.portion_crew import PortionCrew
from tfdist.optimize.portion_gradient import PortionGradient
from tfdist.optimize.portion_ledger import Assignment, PortionLedger
from tfdist.optimize.row_mean import check_is_mean, whole_and_halves
from tfdist.optimize.server_vectors import ServerVectors
from tfdist.strategies.stall_watch import note
from tfdist.training.data.fingerprint import fingerprint_of
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.data.stream import without_optionals
from tfdist.training.parameter_server.batch_messages import types_of

__all__ = ["WholeBatch"]

_PIECES = (-1, -2, -3)  # tags of a portion's loss and its halves'; tickets are no such numbers
_CHECKS = 2  # a sum may be 0 at the weights to begin from: the second pass has others


class WholeBatch:
    """A model's loss over all of its data, as a function of its weights; see `Objective`.

    Args:
        vectors: on the servers.
        gradient: what is computed of a portion.
        crew: who does.
        data: whose batches are the portions.
        ledger: who works on what.
        is_fixed: whether the data are known to be the same in each pass.

    Attributes:
        rows: of a pass; 0 before the first.
    """

    def __init__(
        self,
        vectors: ServerVectors,
        gradient: PortionGradient,
        crew: PortionCrew,
        data: GlobalBatches,
        ledger: PortionLedger,
        is_fixed: bool = False,
    ) -> None:
        self.vectors = vectors
        self.ledger = ledger
        self.rows = 0.0
        self._gradient = gradient
        self._crew = crew
        self._data = data
        self._is_fixed = is_fixed
        self._seen: int | None = None
        self._checks = _CHECKS
        self._batches: dict[int, Any] = {}
        self._losses: dict[int, tuple[float, float]] = {}

    def note_base(self) -> None:
        """Copies the weights to `BASE`."""
        self.vectors.note_base()

    def is_at_base(self) -> bool:
        """Whether nobody else has set weights."""
        return self.vectors.is_at_base()

    def go(self, step: float) -> None:
        """Moves the weights."""
        self.vectors.go(step)

    def measure(self) -> float:
        """Makes a pass over the data; returns the mean loss, and leaves its gradient.

        Raises:
            DataError: there are no data, or others than in the first pass.
            PlugError: the loss is no mean over rows, or another one each time.
        """
        ledger = self.ledger
        ledger.begin()
        self._losses.clear()
        self._batches.clear()
        self._data.rewind()
        self._data.begin_epoch(_alone)
        seen, given, more = 0, 0, True
        while True:
            if ledger.wants_merges:
                self.vectors.merge(ledger.take_merges())
            while more and ledger.has_room:
                batch = self._take()
                if batch is None:
                    more = False
                    break
                note("in minimize, where portions are handed out", "compute")
                if not given and self._checks:
                    self._check(batch)
                given += 1
                if not self._is_fixed:  # other orders give other sums: the order counts, too
                    seen = (seen * 31 + int(fingerprint_of(batch))) % (1 << 61)
                began = ledger.begin_portion(time.monotonic())
                self._batches[began.portion] = batch
                self._start(began)
            if not more and not ledger.open:
                break
            seconds = ledger.seconds_to_copy(time.monotonic(), waits=more)
            if seconds is not None and seconds <= 0:
                self._start(ledger.copy(time.monotonic()))
                continue
            note("in minimize, where portions come back", "compute")
            came = self._crew.wait(seconds)
            if came is not None:
                self._came(*came)
        self._data.end_epoch()
        if not given:
            raise DataError("minimize was given no data: give a dataset with batches in it")
        return self._together(seen)

    def _check(self, batch: Any) -> None:
        """Compares a portion's loss with its halves'."""
        for tag, piece in zip(_PIECES, whole_and_halves(batch), strict=True):
            self._crew.start(self._gradient.loss_function(types_of(piece)), (piece,), tag)
        found: dict[int, list[float]] = {}
        while len(found) < len(_PIECES):
            came = self._crew.wait(None)
            if came is None:
                continue
            number, result = came
            if number in _PIECES:
                found[number] = np.asarray(result).tolist()
            else:  # a copy of the pass before
                self._came(number, result)
        whole, *halves = (found[tag] for tag in _PIECES)
        check_is_mean(whole, halves)
        self._checks -= 1

    def _take(self) -> Any:
        """The next portion; None at the end."""
        note("in the input pipeline", "input", alone=True)
        steps = self._data.take(1, _alone)
        return without_optionals(steps[0].parts[0]) if steps else None

    def _start(self, given: Assignment) -> None:
        batch = self._batches[given.portion]
        ticket = tf.constant([given.slot, given.number], tf.int64)
        self._crew.start(self._gradient.function(types_of(batch)), (batch, ticket), given.number)

    def _came(self, number: int, result: Any) -> None:
        given, counts = self.ledger.came(number, time.monotonic())
        if not counts:
            return
        loss, rows = np.asarray(result).tolist()
        self._losses[given.portion] = loss, rows
        del self._batches[given.portion]

    def _together(self, seen: int) -> float:
        merges, slot = self.ledger.finish()
        self.vectors.merge(merges)
        rows = math.fsum(rows for _, rows in self._losses.values())
        self.vectors.take_gradient(slot, rows)
        self.ledger.let_go(slot)
        if self._seen not in (None, seen) or self.rows not in (0.0, rows):
            raise DataError(
                f"the data of this pass ({rows:,.0f} rows) are not those of the first "
                f"({self.rows:,.0f} rows), batch by batch: L-BFGS reads them again and again; give "
                "arrays, or a dataset without random maps whose shuffle has "
                "reshuffle_each_iteration=False"
            )
        self._seen, self.rows = seen, rows
        return math.fsum(loss for loss, _ in self._losses.values()) / rows

    def end(self) -> None:
        """Waits for what is still on its way."""
        self._crew.drain()


def _alone(numbers: Sequence[float]) -> np.ndarray:
    """The chief alone reads."""
    return np.asarray([numbers], np.float64)
