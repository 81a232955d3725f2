"""Connections in a forked child (a data loader), which would hold them when a task has died."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["leave_to_the_parent"]


class _Open(Protocol):
    def shut(self) -> None:
        """Closes every socket."""


_open: weakref.WeakSet[_Open] = weakref.WeakSet()


def leave_to_the_parent(one: _Open) -> None:
    """Has a forked child shut what its parent has open.

    Args:
        one: Shut in every child that is forked while it lives: shutting twice must be harmless.
    """
    _open.add(one)


def _shut_all() -> None:
    for one in list(_open):
        one.shut()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shut_all)
