"""Where a cluster comes from, and in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfdist.cluster import Cluster, Task
from tfdist.environments import (
    ENVIRONMENTS,
    Environment,
    FileEnvironment,
    LocalEnvironment,
    TFConfigEnvironment,
    detect_cluster,
)
from tfdist.errors import ClusterError
from tfdist.machine.ports import Reservation

TWO = Cluster({"worker": ("a:1", "b:1")})


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}))
    return path


def test_a_process_without_an_environment_is_alone() -> None:
    assert detect_cluster({}) is None
    assert detect_cluster({"TF_CONFIG": "{}", "TFDIST_CLUSTER": "", "TFDIST_TASK": ""}) is None


@pytest.mark.parametrize("name", ["TF_CONFG", "TFCONFIG", "tf_config", "TF_CONFIGS", "TF_CONIFG"])
def test_a_misspelt_tf_config_is_no_reason_to_train_alone(name: str) -> None:
    value = TWO.to_tf_config("worker:1")
    with pytest.raises(ClusterError, match=f"{name} holds a cluster, and TF_CONFIG is not set: "):
        detect_cluster({name: value})
    assert detect_cluster({name: value, "TFDIST_ENVIRONMENT": "alone"}) is None
    assert detect_cluster({name: "{}", "TF_CONF_DIR": "/etc"}) is None
    assert detect_cluster({name: '{"cluster": "prod", "task": "classify"}'}) is None
    for other in ("TF_CONFIG_OLD", "TF_CONFIG_FILE", "CONFIG", "HF_TASK_CONFIG"):
        assert detect_cluster({other: value}) is None
    assert detect_cluster({name: value, "TF_CONFIG": "{}"}) is None
    own = {name: value, "TF_CONFIG": TWO.to_tf_config("worker:0")}
    assert detect_cluster(own) == TWO.with_task("worker:0")


def test_tf_config_is_found() -> None:
    assert detect_cluster({"TF_CONFIG": TWO.to_tf_config("worker:1")}) == TWO.with_task("worker:1")


def test_the_variables_of_the_process_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", TWO.to_tf_config("worker:0"))
    assert detect_cluster() == TWO.with_task("worker:0")


def test_a_wrong_tf_config_is_found_and_refused() -> None:
    with pytest.raises(ClusterError, match="TF_CONFIG: unknown key 'clutser'"):
        detect_cluster({"TF_CONFIG": '{"clutser": {}}'})


def test_an_empty_tf_config_is_none_that_can_be_read() -> None:
    with pytest.raises(ClusterError, match="TF_CONFIG: empty"):
        TFConfigEnvironment().cluster({})


def test_a_file_and_a_task_are_found(spec: Path) -> None:
    variables = {"TFDIST_CLUSTER": str(spec), "TFDIST_TASK": "worker:1"}
    assert detect_cluster(variables) == TWO.with_task("worker:1")


def test_the_task_of_the_file_counts_where_no_other_is_given(spec: Path) -> None:
    spec.write_text(TWO.to_tf_config("worker:0"))
    variables = {"TFDIST_CLUSTER": str(spec)}
    assert detect_cluster(variables) == TWO.with_task("worker:0")
    assert detect_cluster({**variables, "TFDIST_TASK": "worker:1"}) == TWO.with_task("worker:1")


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("", "TFDIST_TASK: not set, and no task in .*; say which task .* TFDIST_TASK=worker:0"),
        ("worker:2", "TFDIST_TASK: task index out of range: worker:2"),
        ("wroker:1", "TFDIST_TASK: unknown job 'wroker'; did you mean 'worker'?"),
    ],
)
def test_a_file_without_a_right_task_is_refused(spec: Path, task: str, says: str) -> None:
    with pytest.raises(ClusterError, match=says):
        detect_cluster({"TFDIST_CLUSTER": str(spec), "TFDIST_TASK": task})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="cannot be read"):
        detect_cluster({"TFDIST_CLUSTER": str(tmp_path / "none.json"), "TFDIST_TASK": "worker:0"})
    with pytest.raises(ClusterError, match="TFDIST_CLUSTER: not set"):
        FileEnvironment().cluster({})


def test_tf_config_comes_before_a_file(spec: Path) -> None:
    # The launcher's processes inherit TFDIST_CLUSTER from the shell, and TF_CONFIG is theirs.
    other = Cluster({"worker": ("127.0.0.1:1", "127.0.0.1:2")})
    variables = {
        "TF_CONFIG": other.to_tf_config("worker:0"),
        "TFDIST_CLUSTER": str(spec),
        "TFDIST_TASK": "worker:1",
    }
    assert detect_cluster(variables) == other.with_task("worker:0")


def test_a_local_cluster_comes_from_counts() -> None:
    with Reservation(3) as reservation:
        environment = LocalEnvironment(reservation.ports, workers=1, ps=1)
        cluster = environment.cluster({})
    assert list(map(str, cluster.tasks)) == ["chief:0", "worker:0", "ps:0"]
    assert cluster.task is None
    assert cluster.with_task(Task("ps", 0)).task == Task("ps", 0)


def test_a_local_cluster_is_never_found_in_the_variables() -> None:
    assert not LocalEnvironment(()).detect({"TF_CONFIG": "x", "TFDIST_CLUSTER": "x"})


@pytest.mark.parametrize("environment", [*ENVIRONMENTS, LocalEnvironment(())])
def test_every_environment_has_the_same_face(environment: object) -> None:
    assert isinstance(environment, Environment)
    assert environment.name
    assert environment.detect({}) is False
