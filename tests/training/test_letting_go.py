"""The end of an iterator is nobody's wait."""

from __future__ import annotations

import threading

from tfdist.training.data.iterator_cleanup import let_go


class Slow:
    """Takes its time to go."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.gone = threading.Event()
        self.thread = ""

    def leave(self) -> None:
        if self.may_go.wait(10):
            self.gone.set()


class Holder:
    """The last one to hold it."""

    def __init__(self, slow: Slow) -> None:
        self.slow = slow

    def __del__(self) -> None:
        self.slow.thread = threading.current_thread().name
        self.slow.leave()


def test_what_is_let_go_ends_in_the_background() -> None:
    slow = Slow()
    box = [Holder(slow)]
    let_go(box)
    assert not slow.gone.is_set()
    slow.may_go.set()
    assert slow.gone.wait(10)
    assert slow.thread == "tfdist-letting-go"
    assert not box
