"""A server makes what comes with a number once, whoever sends it again."""

from __future__ import annotations

import inspect

import keras
import pytest
import tensorflow as tf

from tfdist.compat import keras_optimizers
from tfdist.training.parameter_server.server_updates import ServerUpdates


class Counting:
    """A step with two writes, of one variable each."""

    def __init__(self) -> None:
        self.variables = [keras.Variable(0.0), keras.Variable(0.0)]
        self._writes = ServerUpdates(2)
        self.step = tf.function(self._step, autograph=False)

    def _step(self, ticket: tf.Tensor | None) -> None:
        self._writes.begin(ticket)
        self._writes.add(self.variables[:1], [tf.constant(1.0)])
        self._writes.assign(self.variables[1:], [self.variables[1] + 10.0])

    def take(self, slot: int, number: int) -> list[float]:
        self.step(tf.constant([slot, number], tf.int64))
        return self.seen

    @property
    def seen(self) -> list[float]:
        return [float(variable.numpy()) for variable in self.variables]


@pytest.fixture(scope="module")
def counting() -> Counting:
    return Counting()


def test_a_step_that_comes_again_changes_nothing(counting: Counting) -> None:
    before = counting.seen
    once = counting.take(0, 5)
    assert once == [before[0] + 1, before[1] + 10]  # both writes of one step
    assert counting.take(0, 5) == once
    assert counting.take(0, 4) == once  # of a worker that had been silent
    assert counting.take(0, 6) == [once[0] + 1, once[1] + 10]


def test_chunks_know_nothing_of_each_other(counting: Counting) -> None:
    before = counting.take(0, 20)
    assert counting.take(1, 10)[0] == before[0] + 1
    assert counting.take(1, 10)[0] == before[0] + 1


def test_without_a_number_each_is_made() -> None:
    counting = Counting()
    for _ in range(2):
        counting.step(None)
    assert counting.seen == [2, 20]


@pytest.mark.parametrize("kind", keras_optimizers.COUNT_NOTHING)
def test_an_update_to_which_no_count_is_sent_asks_for_none(
    kind: type[keras.optimizers.Optimizer],
) -> None:
    assert "iterations" not in inspect.getsource(kind.update_step)
