"""TensorFlow functions that nobody needs any more, on a chief whose servers may be lost.

When Python lets one go, TensorFlow tells every server to forget it, and waits for their answers
without letting other threads of this process run: a lost server holds all of it up, and what tells
the others that it lives. So they are let go of together, when it is known that all are there; and
not at all as the process ends, when the servers end, too.
"""

from __future__ import annotations

from tfdist.compat.names import tf_atomic_function, tf_context

__all__ = ["keep_what_is_not_needed", "let_go"]

_kept: list[bytes] = []


def keep_what_is_not_needed() -> None:
    """Has this process's context keep functions until `let_go`."""
    tf_context.context().remove_function = _kept.append


def let_go() -> int:
    """Lets go of what has been kept, and is not needed again; returns how many those were.

    It takes as long as the slowest server: call it where all are known to be there.
    """
    context = tf_context.context()
    gone = 0
    while _kept:
        name = _kept.pop()
        # One of the same name may have been made meanwhile.
        if (context.function_scope_id, name) not in tf_atomic_function.RUNTIME_FUNCTION_REFS:
            type(context).remove_function(context, name)
            gone += 1
    return gone
