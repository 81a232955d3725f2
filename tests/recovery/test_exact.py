"""Killed or told to end at any moment, a job that is started again ends with the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunJob

# A kill comes four steps after the epoch has begun: then the state of the second is on the disk.
SCRIPT = Path(__file__).with_name("exact.py")
TASKS = {
    "multi_worker_mirrored": (["--workers", 2], ["worker-0", "worker-1"]),
    "parameter_server": (["--workers", 1, "--ps", 1], ["chief-0"]),
    "servers": (["--workers", 1, "--ps", 2], ["chief-0"]),
    "pipeline": (["--chief", "--workers", 1], ["chief-0"]),
}
thorough = pytest.mark.thorough


@pytest.fixture(scope="module")
def undisturbed(
    run_job: RunJob, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What jobs of each kind end with that nobody disturbs; run when it is asked for."""

    class Results(dict[str, dict[str, Any]]):
        def __missing__(self, kind: str) -> dict[str, Any]:
            folder = tmp_path_factory.mktemp(kind)
            ran = run_job([*TASKS[kind][0], SCRIPT, folder, kind])
            assert ran.returncode == 0, ran.stderr
            self[kind] = results_in(folder, kind)[0]
            return self[kind]

    return Results()


def results_in(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads((folder / f"result-{task}.json").read_text()) for task in TASKS[kind][1]]


@pytest.mark.parametrize(
    ("kind", "fault", "code"),
    [
        ("multi_worker_mirrored", ("worker:1", 2, 4, "SIGKILL"), 137),
        pytest.param("parameter_server", ("ps:0", 1, 3, "SIGTERM"), 75, marks=thorough),
        pytest.param("multi_worker_mirrored", ("worker:1", 1, 2, "SIGTERM"), 75, marks=thorough),
        pytest.param("pipeline", ("chief:0", 2, 4, "SIGKILL"), 137, marks=thorough),
        pytest.param("multi_worker_mirrored", ("worker:0", 1, 4, "SIGKILL"), 137, marks=thorough),
        pytest.param("multi_worker_mirrored", ("worker:0", 0, 2, "SIGUSR1"), 75, marks=thorough),
        pytest.param("parameter_server", ("chief:0", 2, 4, "SIGKILL"), 137, marks=thorough),
        pytest.param("parameter_server", ("chief:0", 1, 1, "SIGUSR1"), 75, marks=thorough),
        pytest.param("pipeline", ("worker:0", 1, 2, "SIGUSR2"), 75, marks=thorough),
        pytest.param("servers", ("chief:0", 2, 4, "SIGKILL"), 137, marks=thorough),
        pytest.param("servers", ("ps:1", 1, 3, "SIGTERM"), 75, marks=thorough),
    ],
)
def test_a_job_goes_on_in_the_middle_of_an_epoch(
    kind: str,
    fault: tuple[Any, ...],
    code: int,
    run_job: RunJob,
    undisturbed: dict[str, dict[str, Any]],
    tmp_path: Path,
) -> None:
    first = run_job([*TASKS[kind][0], SCRIPT, tmp_path, kind, *fault])
    assert first.returncode == code, first.stderr
    said = first.stdout + first.stderr
    assert ("has asked for the end: all is saved as of epoch" in said) == (code == 75)
    assert not list(tmp_path.glob("result-*.json"))

    second = run_job([*TASKS[kind][0], SCRIPT, tmp_path, kind])
    assert second.returncode == 0, second.stderr
    assert " steps, from " in second.stdout + second.stderr  # in the middle of an epoch
    for result in results_in(tmp_path, kind):
        assert result == undisturbed[kind]  # every bit: weights, slots, history, callbacks
    assert len(list(tmp_path.glob("run-*"))) == 1  # the chief alone has written


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("pipeline", "worker:0"),
        pytest.param("parameter_server", "chief:0", marks=thorough),
        pytest.param("parameter_server", "ps:0", marks=thorough),
        pytest.param("servers", "chief:0", marks=thorough),
        pytest.param("servers", "ps:1", marks=thorough),
    ],
)
def test_the_launcher_starts_the_job_again(
    kind: str,
    task: str,
    run_job: RunJob,
    undisturbed: dict[str, dict[str, Any]],
    tmp_path: Path,
) -> None:
    restarts = ["--max_restarts", 1]
    ran = run_job([*TASKS[kind][0], *restarts, SCRIPT, tmp_path, kind, task, 1, 3, "SIGKILL"])
    assert ran.returncode == 0, ran.stderr
    assert "starting all tasks again (1 of 1)" in ran.stderr
    assert results_in(tmp_path, kind)[0] == undisturbed[kind]


@thorough
@pytest.mark.parametrize("after", [1, 3])
def test_another_number_of_servers_goes_on(
    after: int, run_job: RunJob, undisturbed: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    fault = ("chief:0", 2, 4, "SIGKILL")
    first = run_job([*TASKS["servers"][0], SCRIPT, tmp_path, "servers", *fault])
    assert first.returncode == 137, first.stderr
    second = run_job(["--workers", 1, "--ps", after, SCRIPT, tmp_path, "servers"])
    assert second.returncode == 0, second.stderr
    said = second.stdout + second.stderr
    assert ".sharded" in said.partition("resuming after epoch 2 and ")[2].partition("\n")[0]
    assert f"in {after} shard" in said
    assert results_in(tmp_path, "servers")[0] == undisturbed["servers"]
    kept = [path.suffix for path in (tmp_path / "run-chief-0").glob("epoch-*")]
    assert set(kept) == {".sharded"}


def test_the_undisturbed_run_has_trained_every_step(
    undisturbed: dict[str, dict[str, Any]],
) -> None:
    result = undisturbed["multi_worker_mirrored"]
    assert result["epochs"] == [0, 1, 2, 3]
    assert result["iterations"] == 4 * 7
    assert result["losses"] == result["history"]["loss"]


@thorough
@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_without_a_seed_every_example_is_trained_once_an_epoch(
    kind: str, run_job: RunJob, tmp_path: Path
) -> None:
    script = SCRIPT.with_name("unseeded.py")
    first = run_job(["--workers", 2, script, tmp_path, kind, 5])
    assert first.returncode == 3, first.stderr
    second = run_job(["--workers", 2, script, tmp_path, kind])
    assert second.returncode == 0, second.stderr
    assert "resuming after epoch 0 and 4 steps" in second.stdout + second.stderr
    assert json.loads((tmp_path / "seen.json").read_text()) == [2.0] * 60
