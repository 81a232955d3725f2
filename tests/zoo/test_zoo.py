"""Every program of the zoo does on replicas what plain Keras does, or is refused as expected.

On two workers some of them; with TFDIST_TEST_THOROUGH=1 all, and on 2 and 3 logical CPUs too.
`python -m tests.zoo` prints the table of all three.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.training import comparing
from tests.training.comparing import EVERY, Outcome
from tests.zoo import hub, verdicts
from tests.zoo.programs import PROGRAMS
from tests.zoo.verdicts import Stopped, judged

WORKERS = 2
Found = Outcome | Stopped


@functools.cache
def plain(name: str) -> Outcome:
    program = PROGRAMS[name]
    return comparing.in_plain_keras(program.make, program.use)


USUAL = (
    "VQ-VAE",
    "SimSiam with a gather",
    "accumulation by hand",
    "several optimizers",
    "dropout and noise",
)
"""A program of each kind; the others are long."""

ASKED = list(PROGRAMS) if os.environ.get("TFDIST_TEST_THOROUGH") else list(USUAL)


@pytest.fixture(scope="module")
def job(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Found]]:
    """What each worker of one job has found."""
    folder = tmp_path_factory.mktemp("zoo")
    script = Path(__file__).with_name("job.py")
    ran = run_job(["--workers", WORKERS, script, folder, *ASKED], timeout=300)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return [pickle.loads((folder / f"found-{i}.pickle").read_bytes()) for i in range(WORKERS)]


def check(name: str, found: Sequence[Found]) -> None:
    verdict = judged(plain(name), found)
    assert verdict.found.startswith(PROGRAMS[name].verdict), f"{verdict}\n{verdict.trace}"


@pytest.mark.thorough
@pytest.mark.parametrize("replicas", EVERY, ids=[f"{n}_replicas" for n in EVERY])
@pytest.mark.parametrize("name", PROGRAMS)
def test_on_logical_cpus(name: str, replicas: int) -> None:
    check(name, [verdicts.on_replicas(PROGRAMS[name], replicas)])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ASKED)
def test_on_two_workers(name: str, job: list[dict[str, Found]]) -> None:
    check(name, [worker[name] for worker in job])


@pytest.mark.skipif(hub.INSTALLED, reason="its programs are in the zoo")
def test_a_task_of_keras_hub() -> None:
    pytest.skip("keras_hub is not installed: pip install keras-hub")


@pytest.mark.parametrize("verdict", sorted({program.verdict for program in PROGRAMS.values()}))
def test_nothing_wrong_is_expected(verdict: str) -> None:
    assert verdict == "equal" or verdict.startswith("refused: ")


def outcome(value: float, weight: float = 1.0) -> Outcome:
    return Outcome({"loss": [value]}, [np.array([weight, 2.0], np.float32)], [])


def test_a_difference_is_seen() -> None:
    one = outcome(1.0)
    assert judged(one, [outcome(1.0 + 9e-6)]).found == "equal"
    assert judged(one, [outcome(1.0 + 2e-5)]).found == "wrong: result['loss'][0]"
    assert judged(one, [outcome(1.0, 1.001)]).found == "wrong: weights[0]"
    assert judged(one, [outcome(float("nan"))]).found == "wrong: result['loss'][0]"
    assert judged(outcome(float("nan")), [outcome(float("nan"))]).found.startswith("wrong")
    assert judged(one, [one, outcome(1.0 + 1e-7)]).found.startswith("wrong: the workers differ")
    assert judged(one, [Outcome({}, one.weights, [])]).found.startswith("wrong: result: []")
    assert judged(one, [one, Stopped("failed: here")]).found == "failed: here"
