"""The loss of all data and its gradient: one pass, in portions that workers take as they are free.

Portions are summed in one order (`portion_sums`), so that the loss and the gradient have the same
bits whoever computed which portion, and however often. Only scalars and the data pass through here.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tfdist.errors import DataError
from tfdist.optimize.portion_crew import PortionCrew
from tfdist.optimize.portion_gradient import PortionGradient
from tfdist.optimize.portion_ledger import Assignment, PortionLedger
from tfdist.optimize.portion_source import PortionSource
from tfdist.optimize.row_mean import check_is_mean
from tfdist.optimize.server_vectors import ServerVectors
from tfdist.strategies.stall_watch import note

__all__ = ["WholeBatch"]

_PIECES = (-1, -2, -3)  # tags of a portion's loss and its halves'; tickets are no such numbers
_CHECKS = 2  # a sum may be 0 at the weights to begin from: the second pass has others


class WholeBatch:
    """A model's loss over all of its data, as a function of its weights; see `Objective`.

    Args:
        vectors: on the servers.
        gradient: what is computed of a portion.
        crew: who does.
        source: of portions.
        ledger: who works on what.

    Attributes:
        rows: of a pass; 0 before the first.
    """

    def __init__(
        self,
        vectors: ServerVectors,
        gradient: PortionGradient,
        crew: PortionCrew,
        source: PortionSource,
        ledger: PortionLedger,
    ) -> None:
        self.vectors = vectors
        self.ledger = ledger
        self.rows = 0.0
        self._gradient = gradient
        self._crew = crew
        self._source = source
        self._seen: int | None = None
        self._checks = _CHECKS
        self._given: dict[int, Any] = {}
        self._found: dict[int, tuple[float, float, int]] = {}

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
        self._found.clear()
        self._given.clear()
        self._source.begin()
        count, more = 0, True
        while True:
            if ledger.wants_merges:
                self.vectors.merge(ledger.take_merges())
            while more and ledger.has_room:
                note("in the input pipeline", "input", alone=True)
                given = self._source.take()
                if given is None:
                    more = False
                    break
                note("in minimize, where portions are handed out", "compute")
                if not count and self._checks:
                    self._check(given)
                count += 1
                began = ledger.begin_portion(time.monotonic())
                self._given[began.portion] = given
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
        self._source.end()
        if not count:
            raise DataError("minimize was given no data: give a dataset with batches in it")
        return self._together()

    def _check(self, portion: Any) -> None:
        """Compares a portion's loss with its halves'."""
        for tag, piece in zip(_PIECES, self._source.pieces(portion), strict=True):
            function = self._gradient.loss_function(self._source.types(piece))
            self._crew.start(function, (piece,), tag)
        found: dict[int, list[float]] = {}
        while len(found) < len(_PIECES):
            came = self._crew.wait(None)
            if came is None:
                continue
            number, result = came
            if number in _PIECES:
                found[number] = np.asarray(result).tolist()[:2]
            else:  # a copy of the pass before
                self._came(number, result)
        whole, *halves = (found[tag] for tag in _PIECES)
        check_is_mean(whole, halves)
        self._checks -= 1

    def _start(self, given: Assignment) -> None:
        portion = self._given[given.portion]
        ticket = tf.constant([given.slot, given.number], tf.int64)
        function = self._gradient.function(self._source.types(portion))
        self._crew.start(function, (portion, ticket), given.number)

    def _came(self, number: int, result: Any) -> None:
        given, counts = self.ledger.came(number, time.monotonic())
        if not counts:
            return
        loss, rows, fingerprint = np.asarray(result).tolist()
        self._found[given.portion] = loss, rows, int(fingerprint)
        del self._given[given.portion]

    def _together(self) -> float:
        merges, slot = self.ledger.finish()
        self.vectors.merge(merges)
        rows = math.fsum(rows for _, rows, _ in self._found.values())
        if not rows:
            raise DataError("minimize was given no rows: give data with rows in them")
        self.vectors.take_gradient(slot, rows)
        self.ledger.let_go(slot)
        seen = 0
        for _, (_, _, fingerprint) in sorted(self._found.items()):
            seen = (seen * 31 + fingerprint) % (1 << 61)  # other orders give other sums
        if self._seen not in (None, seen) or self.rows not in (0.0, rows):
            raise DataError(
                f"the data of this pass ({rows:,.0f} rows) are not those of the first "
                f"({self.rows:,.0f} rows), batch by batch: L-BFGS reads them again and again; "
                f"{self._source.alike}"
            )
        self._seen, self.rows = seen, rows
        return math.fsum(loss for loss, _, _ in self._found.values()) / rows

    def end(self) -> None:
        """Waits for what is still on its way."""
        self._crew.drain()
