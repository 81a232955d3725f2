"""Workers of parameter servers compute on their own GPUs, as TensorFlow's placer tells."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from tests.conftest import RunJob
from tfdist.strategies import own_gpus

PLACED = re.compile(r"/(\w+)\((MatMul|ResourceApply\w*|AssignAddVariableOp)\) placed on: (\S+)")


def devices(*names: str) -> list[Any]:
    return [SimpleNamespace(name=f"/job:{name}") for name in names]


@pytest.mark.parametrize(
    ("there", "device"),
    [
        (["chief/task:0/device:GPU:0", "worker/task:0/device:CPU:0"], ""),
        (["worker/task:0/device:CPU:0", "worker/task:0/device:GPU:0"], "/device:GPU:0"),
        (
            [f"worker/task:{i}/device:{kind}" for i in (0, 1) for kind in ("CPU:0", "GPU:0")],
            "/device:GPU:0",
        ),
    ],
)
def test_it_is_each_worker_s_first_gpu(
    there: list[str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices(*there))
    assert own_gpus.of_workers() == device


def test_where_one_worker_has_no_gpu_none_computes_on_another_s(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there = [
        "worker/task:0/device:CPU:0",
        "worker/task:0/device:GPU:0",
        "worker/task:1/device:CPU:0",
    ]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices(*there))
    assert own_gpus.of_workers() == ""
    assert "COMPUTING ON THE CPU: worker:1 without a GPU" in caplog.text


@pytest.mark.timeout(200)
def test_steps_are_placed_on_the_device_of_the_worker_that_takes_them(
    run_job: RunJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of graphs that name no worker; without a device all of it was on CPU:0, on an H100 too."""
    monkeypatch.setenv("TF_CPP_VMODULE", "placer=1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    script = Path(__file__).with_name("two_devices.py")
    options = ["--workers", 2, "--ps", 1, "--log_dir", tmp_path]
    ran = run_job([*options, script], timeout=180)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    for worker in (0, 1):
        text = (tmp_path / f"worker-{worker}.log").read_text()
        placed = {(what, where) for _, what, where in PLACED.findall(text)}
        own = f"/job:worker/replica:0/task:{worker}/device:CPU:1"
        server = "/job:ps/replica:0/task:0/device:CPU:0"
        assert {where for what, where in placed if what == "MatMul"} == {own}
        assert {where for what, where in placed if what != "MatMul"} <= {server}
