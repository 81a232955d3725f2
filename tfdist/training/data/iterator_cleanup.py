"""The end of a dataset's iterator, in the background.

TensorFlow (2.21) may take as long to destroy an iterator as that has lived, a minute at most: the
thread that tunes the pipeline sleeps for ever longer times, and misses the call to end if it wakes
before the call is complete (it is woken before the flag that it looks at is set). At the end of
every `fit` somebody would wait for it.
"""

from __future__ import annotations

import atexit
import sys
import threading

from tfdist.structures import T

__all__ = ["let_go"]


_waiting: set[threading.Thread] = set()


def let_go(box: list[T]) -> None:
    """Destroys what is in the box, the last reference to an iterator, without waiting for it.

    Args:
        box: emptied here, in a while.
    """
    if sys.is_finalizing():
        return

    def empty() -> None:
        box.clear()
        _waiting.discard(threading.current_thread())

    thread = threading.Thread(target=empty, name="tfdist-letting-go", daemon=True)
    _waiting.add(thread)
    thread.start()


@atexit.register
def _wait_for_all() -> None:
    """A thread inside TensorFlow must not outlive Python."""
    for thread in list(_waiting):
        thread.join()
