"""A chief and two real workers do what one process of plain Keras does, or say what is lost."""

from __future__ import annotations

import pickle
import re
import signal
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.conftest import RunJob
from tests.multi_worker import programs
from tests.multi_worker.test_workers import assert_equal
from tests.pipeline import stacks
from tests.training.examples_counted import SOME, expected
from tests.unattended import run_unattended
from tfdist.launch import local_cluster

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def found(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the chief of two workers has found."""
    folder = tmp_path_factory.mktemp("pipeline")
    script = Path(__file__).with_name("job.py")
    ran = run_job(["--workers", 2, "--chief", script, folder], timeout=240)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    content: dict[str, Any] = pickle.loads((folder / "found.pickle").read_bytes())
    return {**content, "folder": folder, "output": ran.stdout + ran.stderr}


@pytest.mark.parametrize("name", stacks.USUAL)
def test_a_pipeline_of_workers_equals_one_process(name: str, found: dict[str, Any]) -> None:
    make, _ = stacks.CASES[name]
    keras.utils.set_random_seed(programs.SEED)
    model = make()
    result = stacks.use(model)
    tolerance = programs.ADAM_WEIGHTS if name == "towers" else 2e-6
    assert_equal(result, found[name]["result"], 1e-5, tolerance, "result")
    assert_equal(model.get_weights(), found[name]["weights"], tolerance, tolerance, "weights")


def task_of(device: str) -> str:
    """The task that a device is of: "worker:1"."""
    found = re.fullmatch(r"/job:(\w+)/replica:0/task:(\d+)/device:CPU:0", device)
    assert found is not None, device
    return f"{found[1]}:{found[2]}"


def test_each_stage_keeps_its_variables_and_their_slots(found: dict[str, Any]) -> None:
    towers = {
        path: task_of(device)
        for path, device in found["towers"]["devices"].items()
        if path.startswith(("left", "right"))
    }
    assert towers == {
        f"{side}_{number}/{kind}": f"worker:{task}"
        for task, side in enumerate(("left", "right"))
        for number in (1, 2)
        for kind in ("kernel", "bias")
    }
    variables = {path: task_of(device) for path, device in found["1f1b"]["devices"].items()}
    assert len(variables) == 2 * 4  # kernels and biases of four layers
    assert set(variables.values()) == {"worker:0", "worker:1"}
    slots = {
        path.partition("/")[2].removesuffix("_momentum"): task_of(device)
        for path, device in found["1f1b"]["slots"].items()
        if path.endswith("_momentum")
    }
    assert slots == {path.replace("/", "_"): task for path, task in variables.items()}


def test_a_job_is_resumed_and_its_model_is_plain_keras(found: dict[str, Any]) -> None:
    keras.utils.set_random_seed(programs.SEED)
    model = stacks.stack()
    history = stacks.fit(model, epochs=2)
    assert len(found["resumed"]["history"]["loss"]) == 1  # the second epoch alone
    assert_equal(history["loss"][1:], found["resumed"]["history"]["loss"], 1e-5, 2e-6, "loss")
    assert_equal(model.get_weights(), found["resumed"]["weights"], 2e-6, 2e-6, "weights")
    loaded = keras.models.load_model(found["folder"] / "saved.keras")
    assert_equal(loaded.get_weights(), found["resumed"]["weights"], 0, 0, "saved weights")


def test_the_measured_schedule_keeps_the_planned_order(found: dict[str, Any]) -> None:
    timings = found["measured"]["timings"]
    assert timings.tasks == ("worker:0", "worker:1")
    assert len(timings.slots) == 2 * 2 * 3
    assert {(t.slot.stage, t.slot.microbatch, t.slot.direction) for t in timings.slots} == {
        (stage, microbatch, direction)
        for stage in range(2)
        for microbatch in range(3)
        for direction in ("forward", "backward")
    }
    assert min(t.begin for t in timings.slots) == 0
    assert all(t.end > t.begin for t in timings.slots)
    for stage in range(2):
        own = [t for t in timings.slots if t.slot.stage == stage]
        planned = sorted(own, key=lambda t: t.slot.clock)
        assert planned == sorted(own, key=lambda t: t.begin)
        ends = [t.end for t in planned]
        begins = [t.begin for t in planned]
        assert all(b >= e - 1e-4 for e, b in zip(ends, begins[1:], strict=False))
    assert "stage 1 |" in found["measured"]["drawn"]
    assert 0 < timings.bubble < 1


def test_a_worker_on_one_core_sends_while_it_computes(found: dict[str, Any]) -> None:
    """TensorFlow would have a process with one thread compute all first, and then send all."""
    ready, arrived = found["handed on"].T
    assert arrived[0] < ready[-1]
    assert arrived[3] < ready[-1]


def test_the_chief_counts_the_examples_that_pass_through(found: dict[str, Any]) -> None:
    assert found["examples"] == expected(SOME[:-1])


def test_a_lost_worker_ends_the_job_with_its_name(tmp_path: Path) -> None:
    script = Path(__file__).with_name("lost_stage.py")
    with local_cluster(workers=2, chief=True) as cluster:
        codes = run_unattended(cluster, script, tmp_path, timeout=90)
    told = Path(tmp_path, "chief:0.log").read_text()
    assert codes == {"chief:0": 75, "worker:0": 75, "worker:1": -signal.SIGKILL}, told[-3000:]
    assert "training" in told
    assert len(re.findall(r"^\S*TaskLost: ", told, re.MULTILINE)) == 1
    assert re.search(r"TaskLost: chief:0 lost worker:1, and with it a stage", told), told[-3000:]
    at = cluster.address(cluster.chief)
    other = Path(tmp_path, "worker:0.log").read_text()
    assert f"TaskLost: chief:0 ({at}) has failed (TaskLost: chief:0 lost worker:1, " in other
