"""The strategy over several machines that this process has made: there can be one only."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfdist.cluster import Cluster
from tfdist.errors import StrategyError
from tfdist.strategies.strategy_options import Options

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["being_made", "keep", "made_before", "making", "of_the_job"]


@dataclasses.dataclass(frozen=True)
class _Made:
    strategy: tf.distribute.Strategy
    kind: str
    cluster: Cluster
    options: Options


_made: _Made | None = None
_lock = threading.RLock()
_depth = 0


@contextlib.contextmanager
def making() -> Iterator[None]:
    """While this thread makes a strategy; the others wait in `making` and in `being_made`."""
    global _depth
    with _lock:
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


def being_made() -> bool:
    """Whether this thread is making a strategy; first waits for one that another thread makes."""
    with _lock:
        return _depth > 0


def keep(strategy: tf.distribute.Strategy, kind: str, cluster: Cluster, options: Options) -> None:
    """Notes what this process has made for its job."""
    global _made
    _made = _Made(strategy, kind, cluster, options)


def of_the_job() -> tf.distribute.Strategy | None:
    """The strategy over several machines that this process has made, if it has."""
    return None if _made is None else _made.strategy


def made_before(kind: str, cluster: Cluster, options: Options) -> tf.distribute.Strategy | None:
    """The strategy over several machines that this process has made, where it is asked for again.

    Raises:
        StrategyError: another one is asked for.
    """
    if _made is None:
        return None
    if cluster != _made.cluster:
        what = "for other machines"
    elif kind != _made.kind:
        what = f"of the kind {kind}"
    elif options not in (Options(), _made.options):
        what = "with other options"
    else:
        return _made.strategy
    raise StrategyError(
        f"a second strategy {what} in a process that has made its job's strategy ({_made.kind}) "
        "already: use the first one everywhere, or start a job of its own for the second"
    )
