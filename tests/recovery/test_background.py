"""A checkpoint that is written beside the training, and cannot be, ends it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import tfdist
from tfdist.errors import CheckpointError
from tfdist.training.checkpointing.background import Background


def test_an_error_of_a_write_beside_the_training_ends_it(tmp_path: Path) -> None:
    strategy = tfdist.strategy("one_device")
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    keep = tfdist.callbacks.Checkpoint(tmp_path / "run")

    def full(*_: object, **__: object) -> None:
        raise CheckpointError("no space left")

    keep.store.write = full  # type: ignore[method-assign, assignment]
    with pytest.raises(CheckpointError, match="no space left"):
        tfdist.plug(model).fit(
            np.ones((4, 2)), np.ones((4, 1)), epochs=1, verbose=0, callbacks=[keep]
        )
    assert not keep.store.read().finished


def test_work_that_failed_does_not_cost_the_next_piece() -> None:
    background = Background(active=True)
    done: list[str] = []

    def fail() -> None:
        raise OSError("full")

    background.begin(fail)
    with pytest.raises(OSError, match="full"):
        background.begin(lambda: done.append("the last"))
    assert done == ["the last"]
    background.close()


def test_to_wait_for_a_piece_leaves_its_error_to_who_settles() -> None:
    background = Background(active=True)

    def fail() -> None:
        raise OSError("full")

    background.wait()
    background.begin(fail)
    background.wait()
    with pytest.raises(OSError, match="full"):
        background.close()
