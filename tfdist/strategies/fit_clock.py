"""The seconds of each phase of the `fit` that this process is in: Python's, and the graphs' own.

The epoch loop tells its phases (`stall_watch.note`). What a loop of steps waits for inside of a
TensorFlow graph, for its input or for what comes of other tasks, the graph itself adds up
(`step_clock`): it is taken from the time for computing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from tfdist import progress
from tfdist.progress import teller
from tfdist.progress.phase_seconds import PhaseSeconds
from tfdist.strategies import step_clock

__all__ = ["CLOCK", "apart", "fitting", "measured", "seconds"]

CLOCK = progress.PhaseClock()
"""That of this process."""

_base = (0.0, 0.0)  # what graphs had waited before, and do where it does not count
_at_rest: tuple[float, float] | None = None  # what they had waited, while none of it counts
_tells_apart: Callable[[], Iterable[str]] = tuple
_last: PhaseSeconds | None = PhaseSeconds()  # of the `fit` that has ended; None in one


@contextlib.contextmanager
def fitting(tells_apart: Callable[[], Iterable[str]], **about: int | None) -> Iterator[None]:
    """Measures a `fit`, and tells of it; one inside of another's callback is the callback's.

    Args:
        tells_apart: which of "input" and "exchange" are told from computing.
        about: `epochs`, `steps` and `batch`, as in a `Record`.
    """
    global _base, _at_rest, _tells_apart, _last
    if not CLOCK.start("callbacks"):
        with apart():
            yield
        return
    step_clock.rest()
    _base, _at_rest, _tells_apart, _last = step_clock.seconds(), None, tells_apart, None
    own = teller.teller()
    try:
        with contextlib.nullcontext() if own is None else own.fitting(CLOCK, measured, **about):
            yield
    finally:
        CLOCK.stop()
        step_clock.rest()
        _last, _tells_apart = seconds(), tuple  # which holds the data else


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """For an `evaluate`, `predict` or `fit` inside of a `fit`: it is of the phase that it is in."""
    global _base, _at_rest
    with CLOCK.held() as holds:
        if not holds:
            yield
            return
        _at_rest = before = step_clock.seconds()
        try:
            yield
        finally:
            now = step_clock.seconds()
            _base = (_base[0] + now[0] - before[0], _base[1] + now[1] - before[1])
            _at_rest = None


def seconds() -> PhaseSeconds:
    """Those of the `fit` that runs, or has run last, until now."""
    if _last is not None:
        return _last
    found = CLOCK.seconds()
    waited, summing = (
        max(0.0, now - base)
        for now, base in zip(_at_rest or step_clock.seconds(), _base, strict=True)
    )
    waited = min(waited, found["compute"])
    summing = min(summing, found["compute"] - waited)
    found["compute"] -= waited + summing
    found["input"] += waited
    found["exchange"] += summing
    return PhaseSeconds(**found).together({"callbacks", "save", *_tells_apart()})


def measured() -> teller.Measured:
    """Where it stands, for a record."""
    ticks = step_clock.ticks()
    phase: str = CLOCK.phase or ""
    if phase == "compute" and ticks % 2:
        phase = "input"
    return teller.Measured(seconds(), phase, (CLOCK.since, ticks))
