"""Functions that Python has let go of stay with TensorFlow until it is said that they may go."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc
import tensorflow as tf
from tfdist.compat import tf_functions
from tfdist.compat.names import tf_context

def made(power):
    return tf.function(lambda x: x ** power).get_concrete_function(tf.TensorSpec([]))

def dropped(power):
    name = made(power).name
    gc.collect()
    return name

context = tf_context.context()
assert not context.has_function(dropped(2))      # so TensorFlow does by itself
tf_functions.keep_what_is_not_needed()
first, second = dropped(3), dropped(4)
needed = made(5)
assert context.has_function(first) and context.has_function(second)
assert tf_functions.let_go() >= 2
assert not context.has_function(first) and not context.has_function(second)
assert tf_functions.let_go() == 0
assert float(needed(tf.constant(2.0))) == 32.0
print("all held")
"""


@pytest.mark.timeout(120)
def test_what_is_not_needed_is_kept_until_it_may_go() -> None:
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.stdout.endswith("all held\n"), ran.stderr[-2000:]
