"""How TensorFlow writes checkpoints that lie on several machines."""

from __future__ import annotations

import functools
import logging

import tensorflow as tf

__all__ = ["quiet_tracing"]

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
