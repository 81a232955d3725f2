"""What `RayReport` says to Ray, and takes from it; Ray itself is stood in for."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tfdist
from tfdist.callbacks import Checkpoint, RayReport
from tfdist.errors import CheckpointError, PlugError


class Reported:
    """A checkpoint of Ray: a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def from_directory(cls, folder: str) -> Reported:
        return cls(Path(folder))

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        yield str(self.path)


class Ray:
    """Keeps what it is told; its checkpoints as the names of the files in them."""

    def __init__(self, in_worker: bool = True) -> None:
        self.in_worker = in_worker
        self.told: list[tuple[dict[str, Any], list[str] | None]] = []
        self.newest: Reported | None = None
        self.Checkpoint = Reported

    def get_context(self) -> Any:
        if not self.in_worker:
            raise RuntimeError("`get_context` cannot be used outside of a Ray Train function")
        return types.SimpleNamespace(get_world_rank=lambda: 0)

    def get_checkpoint(self) -> Reported | None:
        return self.newest

    def report(self, metrics: dict[str, Any], checkpoint: Reported | None = None) -> None:
        files = None if checkpoint is None else sorted(p.name for p in checkpoint.path.iterdir())
        self.told.append((metrics, files))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    return stand_in(monkeypatch, Ray())


def stand_in(monkeypatch: pytest.MonkeyPatch, ray: Ray) -> Ray:
    package = types.ModuleType("ray")
    package.__dict__["train"] = ray
    monkeypatch.setitem(sys.modules, "ray", package)
    monkeypatch.setitem(sys.modules, "ray.train", ray)
    return ray


def fit(callbacks: list[keras.callbacks.Callback], epochs: int = 2) -> None:
    keras.utils.set_random_seed(1)
    with tfdist.strategy("one_device").scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    tfdist.plug(model)
    x = np.ones((16, 3), "float32")
    model.fit(x, x[:, :1], batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks)


def test_each_epoch_and_each_checkpoint_is_told_once(ray: Ray, tmp_path: Path) -> None:
    keep = Checkpoint(tmp_path, every=2, every_steps=3)
    fit([keep, RayReport(keep)])
    places = [(one["epoch"], one.get("step"), files) for one, files in ray.told]
    assert places == [
        (0, 3, ["checkpoint.json", "epoch-00000-step-0000003.keras"]),
        (1, None, None),
        (1, 3, ["checkpoint.json", "epoch-00001-step-0000003.keras"]),
        (2, None, ["checkpoint.json", "epoch-00002.keras"]),
    ]
    assert all(isinstance(one["loss"], float) for one, _ in ray.told)


def test_the_last_epoch_is_told_though_its_turn_had_not_come(ray: Ray, tmp_path: Path) -> None:
    keep = Checkpoint(tmp_path, every=2)
    fit([keep, RayReport(keep)], epochs=3)
    assert [(one["epoch"], files) for one, files in ray.told] == [
        (1, None),
        (2, ["checkpoint.json", "epoch-00002.keras"]),
        (3, None),
        (3, ["checkpoint.json", "epoch-00003.keras"]),
    ]


def test_no_older_checkpoint_is_told_as_the_new_one(ray: Ray, tmp_path: Path) -> None:
    class Spoils(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch:
                self.model.layers[0].bias.assign([np.nan])

    keep = Checkpoint(tmp_path / "one")
    fit([keep, RayReport(keep), Spoils()])
    other = Checkpoint(tmp_path / "two", every_steps=3)
    fit([other, keep := Checkpoint(tmp_path / "three"), RayReport(keep)], epochs=1)
    assert [(one["epoch"], one.get("step"), files) for one, files in ray.told] == [
        (1, None, ["checkpoint.json", "epoch-00001.keras"]),
        (2, None, None),
        (0, 3, None),
        (1, None, ["checkpoint.json", "epoch-00001.keras"]),
    ]


def test_a_model_that_is_not_plugged_is_refused(ray: Ray, tmp_path: Path) -> None:
    keep = Checkpoint(tmp_path)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 3), "float32")
    with pytest.raises(PlugError, match="before fit"):
        model.fit(x, x[:, :1], verbose=0, callbacks=[keep, RayReport(keep)])


def test_metrics_alone(ray: Ray) -> None:
    fit([RayReport()])
    assert [(one["epoch"], files) for one, files in ray.told] == [(1, None), (2, None)]


def test_what_ray_has_is_taken_up_where_it_is_newer(ray: Ray, tmp_path: Path) -> None:
    fit([Checkpoint(tmp_path / "before")], epochs=2)
    ray.newest = Reported(tmp_path / "before")
    fresh, older, newer = (Checkpoint(tmp_path / name) for name in ("fresh", "older", "newer"))
    fit([older], epochs=1)
    fit([newer], epochs=3)
    for keep, epoch in ((fresh, 2), (older, 2), (newer, 3)):
        RayReport(keep)
        assert keep.latest is not None
        assert keep.latest.epoch == epoch
    kept = RayReport(Checkpoint(tmp_path / "anew", resume=False)).checkpoint
    assert kept is not None
    assert kept.latest is None


def test_a_checkpoint_of_something_else_is_refused(ray: Ray, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ray.newest = Reported(tmp_path / "other")
    with pytest.raises(CheckpointError, match="holds none of tfdist's"):
        RayReport(Checkpoint(tmp_path / "run"))


def test_a_checkpoint_that_fit_does_not_know_is_refused(ray: Ray, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give both"):
        fit([RayReport(Checkpoint(tmp_path))])


def test_outside_of_ray_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, Ray(in_worker=False))
    with pytest.raises(PlugError, match="this process is none"):
        RayReport()
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it was not installed
    with pytest.raises(PlugError, match=r"pip install 'tfdist\[ray\]'"):
        RayReport()


def test_what_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"RayReport\('run/'\): give a tfdist"):
        RayReport("run/")  # type: ignore[arg-type]
