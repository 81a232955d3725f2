"""The state of a job goes through bytes and comes back as it was."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.errors import CheckpointError
from tfdist.training.data.position import Position
from tfdist.training.loop import callback_state
from tfdist.training.loop.job_state import JobState, WorkerState, from_bytes, to_bytes

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_values_come_back(value: Any) -> None:
    assert from_bytes(to_bytes(value)) == value


def test_arrays_and_numbers_of_numpy_come_back_with_their_type() -> None:
    given = {"a": np.float32(0.1), "b": np.arange(6, dtype=np.int16).reshape(2, 3), "c": np.inf}
    found = from_bytes(to_bytes(given))
    assert found["a"] == given["a"]
    assert found["a"].dtype == np.float32
    np.testing.assert_array_equal(found["b"], given["b"])
    assert found["b"].dtype == np.int16
    assert found["c"] == np.inf


def test_nothing_else_is_kept_and_nothing_is_run() -> None:
    with pytest.raises(CheckpointError, match="not object: return such from get_state"):
        to_bytes({"x": object()})
    with pytest.raises(CheckpointError, match="not ndarray"):
        to_bytes([np.asarray([object()])])


def state(**changes: Any) -> JobState:
    position = Position(("on_epoch_end", 7, 0, "on_epoch_begin", 3), 3, 3, 7, True, [[1], [2]])
    worker = WorkerState(position, None, [{"metrics": [np.ones(2)], "exchange": []}], [1, 2])
    whole = {"epoch": 1, "step": 3, "logs": {"loss": 0.5}, "stopped": False, "callbacks": {}}
    return JobState(**{**whole, **changes}, workers=[worker])


def test_a_state_comes_back() -> None:
    found = JobState.from_bytes(state().to_bytes())
    assert (found.epoch, found.step, found.logs) == (1, 3, {"loss": 0.5})
    assert found.workers[0].position == state().workers[0].position
    assert found.workers[0].validation is None
    np.testing.assert_array_equal(found.workers[0].replicas[0]["metrics"][0], np.ones(2))


def test_a_state_of_a_later_format_is_refused() -> None:
    tree = {**vars(state()), "workers": [], "format": 99}
    with pytest.raises(CheckpointError, match="by a newer tfdist"):
        JobState.from_bytes(to_bytes(tree))


def test_a_position_comes_back() -> None:
    position = Position((3, "on_epoch_end", 2), 2, 2, None, True)
    assert Position.from_tree(from_bytes(to_bytes(position.to_tree()))) == position


class Own(keras.callbacks.Callback):
    def __init__(self, value: int) -> None:
        super().__init__()
        self.value = value

    def get_state(self) -> Any:
        return self.value

    def set_state(self, state: Any) -> None:
        self.value = state


def test_callbacks_get_their_own_state_back_by_class_and_place() -> None:
    stopping = keras.callbacks.EarlyStopping(patience=3)
    stopping.wait, stopping.best, stopping.best_weights = 2, np.float32(0.25), [np.ones(3)]
    states = callback_state.states_of(
        [keras.callbacks.CSVLogger("x"), Own(1), stopping, Own(2), keras.callbacks.History()]
    )
    again = keras.callbacks.EarlyStopping(patience=3)
    own = [Own(0), Own(0)]
    callback_state.give_back([*own, again], from_bytes(to_bytes(states)))
    assert [one.value for one in own] == [1, 2]
    assert (again.wait, again.best) == (2, 0.25)
    np.testing.assert_array_equal(again.best_weights[0], np.ones(3))
