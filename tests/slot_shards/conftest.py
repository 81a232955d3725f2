"""Three logical CPUs in this process, and the table of the largest differences.

`TFDIST_TEST_DIFFERENCES=1` shows, at the end, how far each test's job was from plain Keras.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import tensorflow as tf

from tests.training import comparing
from tests.training.devices import cut_the_cpu

cut_the_cpu()


@pytest.fixture(autouse=True)
def _no_scope_is_left() -> Iterator[None]:
    yield
    assert not tf.distribute.has_strategy()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("TFDIST_TEST_DIFFERENCES"):
        terminalreporter.section("largest differences from plain Keras")
        for line in comparing.table():
            terminalreporter.line(line)
