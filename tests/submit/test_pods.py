"""A rendered job trains: its commands and variables, in pods made of namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT
from tests.submit.pods import KEPT, Pods
from tfdist import cli
from tfdist.diagnose.namespace_hosts import reason_against

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(240)]

SCRIPT = """
import os, sys, time
import keras, numpy as np, tfdist

folder, pause = sys.argv[1], float(sys.argv[2])
keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
open(f"{folder}/arrived", "a").close()
strategy = tfdist.strategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
tfdist.plug(model)

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(pause)
        if batch == 2 and tfdist.is_chief():
            open(f"{folder}/began", "w").close()

saved = tfdist.callbacks.Checkpoint(f"{folder}/run", every_steps=1)
history = model.fit(
    x, x.sum(1, keepdims=True), batch_size=8, epochs=3, verbose=0, callbacks=[saved, Slow()]
).history
if tfdist.is_chief():
    flat = np.concatenate([weight.ravel() for weight in model.get_weights()])
    np.savez(f"{folder}/end.npz", weights=flat, loss=history["loss"])
print("replicas", strategy.num_replicas_in_sync, "pid", os.getppid(), os.getuid(), sys.argv[3:])
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    if reason := reason_against():
        pytest.skip(reason)
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    return folder / "train.py"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    folder.mkdir()
    os.chown(folder, 1000, 1000)  # as fsGroup has it
    return folder


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    options = ["--image", "fit:1", "--name", "fit", "--python", sys.executable, "--mount", KEPT]
    storage = ["--storage", "1Gi", "--cpus", "1", "--rendezvous_timeout", "60", "--grace", "20"]
    assert cli.main(["submit", "kubernetes", "--dry_run", *options, *storage, *arguments]) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def alone(script: Path, folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(script), str(folder), "0"]
    subprocess.run(command, env=environ, check=True, timeout=60, capture_output=True)
    return dict(np.load(folder / "end.npz"))


def check(kept: Path, script: Path) -> None:
    expected, found = alone(script, kept.parent / "alone"), np.load(kept / "end.npz")
    np.testing.assert_allclose(found["weights"], expected["weights"], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=2e-5)


def test_two_pods_train_as_one_process_does_though_one_comes_late(
    script: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = rendered(capsys, "--workers", "2", "train.py", KEPT, "0", "$(HOME) $x")
    with Pods(manifests, script.parent, kept) as pods:
        pods.start(0)
        pods.wait_for(kept / "arrived")
        time.sleep(3)  # the second pod's name is not known until then
        pods.start(1)
        codes = dict(pods.run(90))
    assert codes == {0: 0, 1: 0}, pods.told()
    assert pods.told().count("replicas 2 pid 1 1000 ['$(HOME) $x']") == 2, pods.told()
    check(kept, script)


def test_servers_are_pods_of_one_job(
    script: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = rendered(capsys, "--workers", "1", "--ps", "1", "train.py", KEPT, "0")
    with Pods(manifests, script.parent, kept) as pods:
        pods.start(2)  # the ps
        pods.wait_for(kept / "arrived")
        pods.start(0)
        time.sleep(3)
        pods.start(1)
        codes = dict(pods.run(90))
    assert codes == {0: 0, 1: 0, 2: 0}, pods.told()
    assert np.isfinite(np.load(kept / "end.npz")["loss"]).all()


def test_pods_that_end_with_75_are_replaced_and_go_on(
    script: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = rendered(capsys, "--workers", "2", "train.py", KEPT, "0.2")
    codes: list[tuple[int, int]] = []
    with Pods(manifests, script.parent, kept) as pods:
        pods.start(0)
        pods.start(1)
        pods.wait_for(kept / "began")
        pods.evict(1)
        codes.extend(pods.run(120))
    assert sorted(codes) == [(0, 0), (0, 75), (1, 0), (1, 75)], pods.told()
    assert "resum" in pods.told(), pods.told()
    check(kept, script)


def test_a_wrong_job_is_not_tried_again(
    script: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = rendered(capsys, "--workers", "2", "nowhere.py")
    with Pods(manifests, script.parent, kept) as pods:
        pods.start(0)
        pods.start(1)
        codes = list(pods.run(60))
    assert [code for _, code in codes] == [64], pods.told()
    assert "no script 'nowhere.py' here" in pods.told()
