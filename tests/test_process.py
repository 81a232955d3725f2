"""Who a process is: the same from its environment, from a launcher and from `cluster=`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfdist import process
from tfdist.cluster import Cluster
from tfdist.errors import ClusterError, StrategyError
from tfdist.machine.capacities import available_cores
from tfdist.machine.ports import Reservation
from tfdist.process import (
    ASKED_SUFFIX,
    SAVES_VARIABLE,
    WRITES_SUFFIX,
    Process,
    is_asked_to_save,
    rendezvous_timeout,
    saves_when_asked,
    writes,
)

SPEC = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"], "evaluator": ["127.0.0.1:3"]}}

BEFORE = """
import json, os, sys
import tfdist
from tfdist import process
"""
SAY = """
here = process.current()
print(json.dumps([str(here.task), here.is_chief, here.is_evaluator, tfdist.is_chief()]))
"""
PASSED = """
import os
spec = json.loads(os.environ.pop("SPEC"))
tfdist.strategy("one_device", cluster=tfdist.Cluster.from_json(spec))
"""


TRAINS_ALONE = """
tfdist.strategy(cluster=tfdist.Cluster.from_json(json.loads(os.environ.pop("SPEC"))))
import keras
import numpy as np
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
saving = tfdist.callbacks.Checkpoint(sys.argv[1])
model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0, callbacks=[saving])
"""


def said_by(code: str, **variables: str) -> list[object]:
    """What a process of its own says of itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TF_CONFIG", "TFDIST_"))}
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + code + SAY],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_process_without_a_cluster_is_alone_and_the_chief() -> None:
    assert said_by("") == ["None", True, False, True]


@pytest.mark.parametrize(
    ("job", "index", "said"),
    [
        ("worker", 0, ["worker:0", True, False, True]),
        ("worker", 1, ["worker:1", False, False, False]),
        ("evaluator", 0, ["evaluator:0", False, True, False]),
    ],
)
def test_the_environment_tells_who_a_process_is(
    job: str, index: int, said: list[object], tmp_path: Path
) -> None:
    spec = {**SPEC, "task": {"type": job, "index": index}}
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(SPEC))
    assert said_by("", TF_CONFIG=json.dumps(spec)) == said
    assert said_by("", TFDIST_CLUSTER=str(file), TFDIST_TASK=f"{job}:{index}") == said
    by_hand = f"os.environ['TF_CONFIG'] = {json.dumps(spec)!r}"
    assert said_by(by_hand) == said


def test_a_cluster_that_is_passed_tells_it_without_any_environment() -> None:
    """Every worker thought itself the chief, and the evaluator trained (a fault that was there)."""
    evaluator = {**SPEC, "task": {"type": "evaluator", "index": 0}}
    assert said_by(PASSED, SPEC=json.dumps(evaluator)) == ["evaluator:0", False, True, False]


@pytest.mark.timeout(150)
def test_of_two_workers_that_were_passed_their_cluster_one_is_the_chief_and_writes(
    tmp_path: Path,
) -> None:
    """The model is not plugged, so its checkpoint asks nobody but the process who it is."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TF_CONFIG", "TFDIST_CL"))}
    clean.pop("TFDIST_TASK", None)
    with Reservation(2) as held, contextlib.ExitStack() as stack:
        cluster = Cluster.local(2, ports=held.ports)
        running = []
        for task in cluster.tasks:
            process = subprocess.Popen(
                [sys.executable, "-c", BEFORE + TRAINS_ALONE + SAY, str(tmp_path / str(task))],
                env={**clean, "SPEC": cluster.to_tf_config(task)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            running.append(process)
        ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    said = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    assert said == [["worker:0", True, False, True], ["worker:1", False, False, False]]
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.keras")}
    assert written == {"worker:0/epoch-00001.keras"}


def test_a_process_is_what_its_cluster_and_its_task_say() -> None:
    jobs = {"worker": ("127.0.0.1:1", "127.0.0.1:2"), "evaluator": ("127.0.0.1:3",)}
    for name, is_chief, is_evaluator in (
        ("worker:0", True, False),
        ("worker:1", False, False),
        ("evaluator:0", False, True),
    ):
        here = Process(Cluster(jobs).with_task(name))
        assert (str(here.task), here.is_chief, here.is_evaluator) == (name, is_chief, is_evaluator)
    alone = Process()
    assert (alone.task, alone.is_chief, alone.is_evaluator) == (None, True, False)


def test_what_a_strategy_was_made_for_counts_more_than_the_environment() -> None:
    """A job of one worker that is passed, in a shell in which another job's TF_CONFIG is left."""
    other = {**SPEC, "task": {"type": "evaluator", "index": 0}}
    alone = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    said = said_by(PASSED, SPEC=json.dumps(alone), TF_CONFIG=json.dumps(other))
    assert said == ["worker:0", True, False, True]


def test_a_wrong_environment_is_told_where_it_is_asked() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CONFIG", '{"clutser": {}}')
        from tfdist import process

        patch.setattr(process, "_joined", None)
        with pytest.raises(ClusterError, match="clutser"):
            process.current()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_rendezvous_timeout_that_is_none_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDIST_RENDEZVOUS_TIMEOUT", text)
    with pytest.raises(StrategyError, match=f"TFDIST_RENDEZVOUS_TIMEOUT='{text}': give seconds"):
        rendezvous_timeout()


def test_the_launcher_sees_when_a_task_would_save_and_when_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SAVES_VARIABLE, str(tmp_path / "sign"))
    with saves_when_asked():
        assert [path.name for path in tmp_path.iterdir()] == ["sign"]
        with writes():
            assert {path.name for path in tmp_path.iterdir()} == {"sign", f"sign{WRITES_SUFFIX}"}
    assert not list(tmp_path.iterdir())
    assert not is_asked_to_save()
    (tmp_path / f"sign{ASKED_SUFFIX}").touch()
    assert is_asked_to_save()


@pytest.mark.parametrize("sign", ["", "/not/there/sign"])
def test_a_task_whose_launcher_sees_no_signs_does_the_same(
    sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SAVES_VARIABLE, sign)
    with pytest.raises(KeyError), saves_when_asked(), writes():
        raise KeyError
    assert not is_asked_to_save()


def test_the_environment_tells_how_many_threads_an_operation_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    assert process.threads() == 3
    for text in ("0", "many", ""):
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", text)
        assert process.threads() == available_cores()


def test_the_launcher_tells_where_files_for_people_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFDIST_LOG_FOLDER", raising=False)
    assert process.log_folder() == Path("tfdist_logs")
    monkeypatch.setenv("TFDIST_LOG_FOLDER", "/logs/now")
    assert process.log_folder() == Path("/logs/now")


def test_in_a_pod_of_kubernetes_names_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert not process.names_come_late()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert process.names_come_late()


def test_the_launcher_tells_the_port_of_tensorflows_server_on_a_chief(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(process.COORDINATOR_VARIABLE, raising=False)
    assert process.coordinator_port() is None
    monkeypatch.setenv(process.COORDINATOR_VARIABLE, "2222")
    assert process.coordinator_port() == 2222


def test_the_launcher_tells_whether_tasks_meet_in_tunnels_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(process.SECURE_VARIABLE, raising=False)
    assert not process.is_secure()
    monkeypatch.setenv(process.SECURE_VARIABLE, "1")
    assert process.is_secure()


def test_a_tasks_part_of_the_gpus_is_a_whole_number_above_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (process.GPUS_ASKED_VARIABLE, process.GPU_MEMORY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert (process.gpus_asked(), process.gpu_memory()) == (0, None)
    monkeypatch.setenv(process.GPUS_ASKED_VARIABLE, "2")
    monkeypatch.setenv(process.GPU_MEMORY_VARIABLE, "4096")
    assert (process.gpus_asked(), process.gpu_memory()) == (2, 4096)
    monkeypatch.setenv(process.GPUS_ASKED_VARIABLE, "two")
    with pytest.raises(StrategyError, match=r"^TFDIST_GPUS_PER_TASK='two': give a whole number"):
        process.gpus_asked()
    monkeypatch.setenv(process.GPU_MEMORY_VARIABLE, "0")
    with pytest.raises(StrategyError, match=r"^TFDIST_GPU_MEMORY='0': give MiB above 0, or unset"):
        process.gpu_memory()
