"""What TensorFlow writes: checkpoints on several machines, and objects whose lists have changed."""

from __future__ import annotations

import functools
import logging

import tensorflow as tf

from tfdist.compat.names import tf_lists

__all__ = ["may_be_saved", "quiet_tracing"]

_TRACED = "MultiDeviceSaver.save"
"""What it names in its warning; another name brings the warning back, and nothing else."""


@functools.cache
def quiet_tracing() -> None:
    """Leaves out its warning that the function which writes is traced anew for each checkpoint.

    It means to: where files go is a part of what is traced.
    """
    tf.get_logger().addFilter(_is_another)


def _is_another(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return not (_TRACED in text and "retracing" in text)


def may_be_saved(owner: object) -> None:
    """Lets TensorFlow save an object from whose lists something was taken, as they are now.

    It refuses to (`model.export`), as what restores lists while they grow would find others.
    """
    for value in vars(owner).values():
        if isinstance(value, tf_lists.ListWrapper) and value._non_append_mutation:
            value._non_append_mutation = False
            value._update_snapshot()
