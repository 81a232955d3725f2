"""An evaluator beside the job scores its checkpoints, the last one always, and then ends."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tests.conftest import RunJob
from tfdist.errors import CheckpointError, PlugError
from tfdist.training import evaluator
from tfdist.training.checkpointing.store import Store
from tfdist.training.data.global_batches import GlobalBatches
from tfdist.training.evaluator import Evaluator
from tfdist.training.plugged import Plugged

X = np.linspace(-1, 1, 40).reshape(20, 2).astype("float32")
Y = X.sum(axis=1, keepdims=True)
ELSEWHERE = json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}})


def make(units: int = 1) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
    model.compile(optimizer="sgd", loss="mse", run_eagerly=True)  # tracing would take longer
    return tfdist.plug(model)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "_POLL_SECONDS", 0.02)


@contextlib.contextmanager
def scoring(
    directory: Path, units: int = 1, resume: bool = True, grace: float = 60
) -> Iterator[Callable[..., dict[str, Any]]]:
    """An evaluator at work in a thread; gives what waits for its end and returns its findings."""
    model = make(units)
    plugged = Plugged.of(model)
    assert plugged is not None
    data = GlobalBatches(plugged.layout, X, np.repeat(Y, units, axis=1))
    callback = tfdist.callbacks.Checkpoint(directory, resume=resume)
    here = Evaluator(data, [callback], grace=grace)
    found: dict[str, Any] = {"model": model, "epochs": []}

    def work() -> None:
        try:
            history = here.run(plugged._prepared)
            found.update(epochs=history.epoch, **history.history)
        except Exception as error:
            found["error"] = error

    thread = threading.Thread(target=work, daemon=True)

    def wait(seconds: float = 20) -> dict[str, Any]:
        thread.join(seconds)
        found["running"] = thread.is_alive()
        found["scored"] = len(getattr(getattr(model, "history", None), "epoch", ()))
        return found

    thread.start()
    try:
        yield wait
    finally:
        with contextlib.suppress(CheckpointError):
            Store(directory).finish()  # whatever has failed, the thread ends
        thread.join(20)


def weights_of(value: float, path: str, units: int = 1) -> None:
    model = make(units)
    model.set_weights([np.full((2, units), value), np.zeros(units)])
    keras.Model.save(model, path)


def write(store: Store, epoch: int, value: float, units: int = 1) -> None:
    store.write(lambda path: weights_of(value, path, units), epoch, {})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 15 s"
        time.sleep(0.02)


def test_each_checkpoint_is_scored_as_it_comes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(None)
    with scoring(tmp_path) as wait:
        for epoch, value in ((1, 0.0), (2, 0.5), (3, 1.0)):
            write(store, epoch, value)
            until(lambda: wait(0)["scored"] == epoch)  # noqa: B023 - it is called at once
        store.finish()
        found = wait()
    assert not found["running"]
    assert found["epochs"] == [0, 1, 2]
    expected = [float(np.mean((Y * (1 - value)) ** 2)) for value in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(found["val_loss"], expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found["model"].get_weights()[0], 1.0)


def test_of_many_at_once_the_last_is_scored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with scoring(tmp_path) as wait:
        store.begin(None)
        for epoch in range(1, 9):
            write(store, epoch, epoch / 8)
        store.finish()
        found = wait()
    assert found["epochs"][-1] == 7
    assert found["val_loss"][-1] == pytest.approx(0, abs=1e-9)


def test_the_real_callback_tells_the_end(tmp_path: Path) -> None:
    with scoring(tmp_path) as wait:
        keep = tfdist.callbacks.Checkpoint(tmp_path, every=2)
        model = make()
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[keep])
        found = wait()
        assert not found["running"]
    assert found["epochs"][-1] == 2
    assert found["val_loss"][-1] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)


def test_an_earlier_runs_end_is_not_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "_birth_of_this_process", lambda: time.time() + 3600)
    old, new = Store(tmp_path), Store(tmp_path)
    old.begin(None)
    write(old, 1, 0.5)
    old.finish()
    with scoring(tmp_path) as wait:
        until(lambda: wait(0)["scored"] == 1)  # a resumed run goes on from it
        assert wait(0.3)["running"]
        new.begin(new.latest())
        assert wait(0.3)["running"]
        write(new, 2, 1.0)
        new.finish()
        found = wait()
    assert not found["running"]
    assert found["epochs"] == [0, 1]


def test_a_run_that_begins_anew_is_not_scored_on_what_lay_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluator, "_birth_of_this_process", lambda: time.time() + 3600)
    old, new = Store(tmp_path), Store(tmp_path)
    old.begin(None)
    write(old, 5, 0.5)
    old.finish()
    with scoring(tmp_path, resume=False) as wait:
        until(lambda: "waiting 60 s for a new one" in capsys.readouterr().err)
        new.begin(None)
        assert wait(0.2)["running"]
        write(new, 1, 1.0)
        new.finish()
        found = wait()
    assert found["epochs"] == [0]


def test_where_nothing_begins_the_last_checkpoint_is_scored_after_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "_birth_of_this_process", lambda: time.time() + 3600)
    store = Store(tmp_path)
    store.begin(None)
    write(store, 4, 1.0)
    store.finish()
    start = time.monotonic()
    with scoring(tmp_path, resume=False, grace=0.5) as wait:
        found = wait()
    assert not found["running"]
    assert found["epochs"] == [3]
    assert time.monotonic() - start >= 0.5


def test_a_run_that_was_over_before_the_evaluator_looked_is_scored_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(None)  # after this process has started
    write(store, 2, 1.0)
    store.finish()
    with scoring(tmp_path) as wait:
        found = wait()
        assert not found["running"]
    assert found["epochs"] == [1]


def test_a_checkpoint_that_vanishes_while_it_is_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        evaluator, "_TRIES", 100_000
    )  # the next one may come late on a busy machine
    tried: list[str] = []
    load = keras.Model.load_weights

    def counted(self: keras.Model, path: str) -> None:
        tried.append(path)
        load(self, path)

    monkeypatch.setattr(keras.Model, "load_weights", counted)
    store = Store(tmp_path)
    store.begin(None)
    write(store, 1, 0.5)
    (tmp_path / "epoch-00001.keras").unlink()
    with scoring(tmp_path) as wait:
        until(lambda: len(tried) > 1)
        write(store, 2, 1.0)
        store.finish()
        found = wait()
    assert "error" not in found
    assert found["epochs"] == [1]


def test_checkpoints_of_another_model_end_the_evaluator(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(None)
    write(store, 1, 0.5, units=3)
    with scoring(tmp_path) as wait:
        error = wait()["error"]
    assert isinstance(error, CheckpointError)
    assert "they are of another one or damaged; give the directory" in str(error)


def test_a_long_wait_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluator, "_QUIET_SECONDS", 0.1)
    store = Store(tmp_path)
    with scoring(tmp_path) as wait:
        wait(0.9)
        store.begin(None)
        store.finish()
        assert wait()["epochs"] == []
    lines = [line for line in capsys.readouterr().err.splitlines() if "still waiting" in line]
    assert 2 <= len(lines) <= 4  # after 0.1, 0.2, 0.4, 0.8 s


def test_what_an_evaluator_lacks_is_named(tmp_path: Path) -> None:
    plugged = Plugged.of(make())
    assert plugged is not None
    data = GlobalBatches(plugged.layout, X, Y)
    keep = tfdist.callbacks.Checkpoint(tmp_path)
    with pytest.raises(PlugError, match=r"without validation_data .* give fit validation_data"):
        Evaluator(None, [keep])
    with pytest.raises(CheckpointError, match=r"with 0 Checkpoint .*Checkpoint\(directory\)"):
        Evaluator(data, [keras.callbacks.CSVLogger(str(tmp_path / "log"))])
    with pytest.raises(CheckpointError, match="with 2 Checkpoint callbacks"):
        Evaluator(data, [keep, [keep]])


def test_an_unplugged_model_does_not_write_over_the_jobs_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", ELSEWHERE)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    with pytest.raises(CheckpointError, match=r"not plugged, on the evaluator"):
        model.fit(X, Y, verbose=0, callbacks=[tfdist.callbacks.Checkpoint(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_an_evaluator_beside_a_job_runs_the_same_script_to_its_end(
    run_job: RunJob, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("evaluated.py")
    ran = run_job(["--workers", 1, "--evaluator", script, tmp_path, 4], timeout=60)
    assert ran.returncode == 0, ran.stderr
    trainer, evaluator = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("trainer", "evaluator")
    )
    assert (trainer["is_chief"], evaluator["is_chief"]) == (True, False)
    assert evaluator["epochs"][-1] == 3
    for name, values in evaluator["history"].items():
        there = [trainer["history"][name][epoch] for epoch in evaluator["epochs"]]
        np.testing.assert_allclose(values, there, rtol=1e-5)
    np.testing.assert_allclose(evaluator["evaluated"], trainer["evaluated"], rtol=1e-5)
    assert "checkpoint of epoch 4: loss " in ran.stdout + ran.stderr
    (events,) = (tmp_path / "board" / "evaluator").iterdir()
    records = tf.data.TFRecordDataset(str(events)).as_numpy_iterator()
    tags = {
        v.tag for record in records for v in tf.compat.v1.Event.FromString(record).summary.value
    }
    assert tags == {"epoch_loss", "epoch_accuracy"}
