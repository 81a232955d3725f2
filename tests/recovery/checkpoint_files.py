"""Checkpoints of a few letters, and the lines that are logged of them."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tfdist import log

__all__ = ["text_of", "told", "write"]


def write(text: str) -> Callable[[str], None]:
    """Writes a file of the kind that Keras writes, with a text in it."""

    def save(path: str) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.weights.h5", text)

    return save


@contextlib.contextmanager
def told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """tfdist's own lines are in `caplog` too."""
    log.logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        log.logger.removeHandler(caplog.handler)


def text_of(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read("model.weights.h5").decode()
