"""Two real workers whose models, calls or data go apart are told what does, and go on otherwise."""

from __future__ import annotations

import pickle
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.conftest import RunJob


class Ran(NamedTuple):
    job: subprocess.CompletedProcess[str]
    found: list[dict[str, Any]]
    folder: Path


@pytest.fixture(scope="module")
def ran(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("apart")
    job = run_job(["--workers", 2, Path(__file__).with_name("apart.py"), folder], timeout=550)
    files = [folder / f"found-{worker}.pickle" for worker in range(2)]
    assert all(file.exists() for file in files), job.stdout[-3000:] + job.stderr[-3000:]
    return Ran(job, [pickle.loads(file.read_bytes()) for file in files], folder)


ALONE = {
    "rate on the chief": r"\(SGD\w*/learning_rate is 0.5 on worker 0 and 0.1 on worker 1\)",
    "rate in the middle": r"\(SGD\w*/learning_rate is 0.5 on worker 0 and 0.1 on worker 1\)",
    "weight on the chief": r"kernel is not on worker 1 what it is on worker 0",
    "weight at the end": r"kernel is not on worker 1 what it is on worker 0\)",
    "slot on the chief": r"kernel_momentum is not on worker 1 what it is on worker 0",
    "weight before fit": r"kernel is not on worker 1 what it is on worker 0\)",
    "optimizer of the chief": r"number of their variables is 12 on worker 0 and 10 on worker",
    "weight before predict": r"kernel is not on worker 1 what it is on worker 0\)",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ALONE)
def test_what_one_worker_sets_alone_is_named_on_all(name: str, ran: Ran) -> None:
    for worker in ran.found:
        told = f"PlugError: the workers' models have come apart .*{ALONE[name]}"
        assert re.match(told, worker[name], re.IGNORECASE), worker[name]


HYPERPARAMETERS = {
    "dropout on the chief": r"2/dropout\w*\.rate is 0.25 on worker 0 and 0.5 on worker 1",
    "frozen on the chief": r"1/dense\w*\.trainable is 0 on worker 0 and 1 on worker 1",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_hyperparameters_of_one_worker_alone_are_named(name: str, ran: Ran) -> None:
    for worker in ran.found:
        said = HYPERPARAMETERS[name]
        told = rf"PlugError: the workers train with other hyperparameters \({said}\)"
        assert re.match(told, worker[name]), worker[name]


@pytest.mark.timeout(600)
def test_processors_that_round_otherwise_are_brought_together(ran: Ran) -> None:
    first, second = (worker["rounding"] for worker in ran.found)
    assert not isinstance(first, str), first
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.timeout(600)
def test_what_is_meant_to_differ_between_replicas_is_no_cause_for_alarm(ran: Ran) -> None:
    names = [name for name in ran.found[0] if name.startswith("alike")]
    assert len(names) == 4
    for name in names:
        assert not isinstance(ran.found[0][name], str), (name, ran.found[0][name])
        assert ran.found[0][name] == ran.found[1][name], name


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fit and evaluate", "worker 0 calls fit, worker 1 calls evaluate"),
        ("evaluate in fit", "worker 0 calls evaluate, worker 1 is in the middle of a call"),
    ],
)
def test_workers_that_call_different_methods_are_told_which(name: str, says: str, ran: Ran) -> None:
    for worker in ran.found:
        assert (
            f"DataError: the workers do different things at the same time ({says})" in worker[name]
        )


@pytest.mark.timeout(600)
def test_fit_and_its_callbacks_in_the_scope_do_what_they_do_outside(ran: Ran) -> None:
    for worker in ran.found:
        assert not isinstance(worker["in scope"], str), worker["in scope"]
        *inside, files = worker["in scope"]
        history, scores, outputs = worker["out of scope"]
        assert inside[:2] == [history, scores]
        np.testing.assert_array_equal(inside[2], outputs)
        assert {"1.keras", "2.weights.h5", "last.keras", "board", "own"} <= set(files)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["random map", "stateless map"])
def test_random_maps_whose_order_is_fixed_train(name: str, ran: Ran) -> None:
    first, second = (worker[name] for worker in ran.found)
    assert not isinstance(first, str), first
    assert first == second


@pytest.mark.timeout(600)
def test_a_map_that_runs_python_code_is_named(ran: Ran) -> None:
    says = r"a map runs Python code \(py_function, numpy_function\)"
    for worker in ran.found:
        told = f"DataError: the workers read different data in the same step: {says}"
        assert re.match(told, str(worker["python map"])), worker["python map"]


@pytest.mark.timeout(600)
def test_who_waits_for_a_worker_that_has_ended_well_is_told_so(ran: Ran) -> None:
    assert ran.job.returncode == 1
    said = ran.job.stdout + ran.job.stderr
    told = r"TaskLeft: worker:0 is in evaluate and waits for worker:1, whose program has ended well"
    assert re.search(told, said), said[-3000:]
