"""Two real workers do, in every program, what one process of plain Keras does.

So do three, with `scripts/test --thorough`.
"""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunJob
from tests.multi_worker import programs
from tests.training import comparing
from tests.training.examples_counted import SOME, expected

AROUND_ZERO = 1e-7  # a number that should be 0 has no relative difference


WORKERS = (2, 3) if comparing.THOROUGH else (2,)


@pytest.fixture(scope="module", params=WORKERS, ids=[f"{n}_workers" for n in WORKERS])
def found(
    request: pytest.FixtureRequest, run_job: RunJob, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What each worker of one job has found."""
    folder = tmp_path_factory.mktemp("found")
    script = Path(__file__).with_name("job.py")
    ran = run_job(["--workers", request.param, script, folder], timeout=550)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return [pickle.loads((folder / f"found-{i}.pickle").read_bytes()) for i in range(request.param)]


_plain: dict[str, Any] = {}


def plain(name: str) -> tuple[Any, list[Any]]:
    if name not in _plain:
        _plain[name] = programs.run(name, contextlib.nullcontext(), lambda model: model)
    result: tuple[Any, list[Any]] = _plain[name]
    return result


def assert_equal(a: Any, b: Any, rtol: float, atol: float, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_equal(a[key], b[key], rtol, atol, f"{where}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_equal(one, other, rtol, atol, f"{where}[{i}]")
    elif isinstance(a, str):
        assert a == b, where
    else:
        assert np.isfinite(a).all(), f"{where}: not finite"  # NaN would be equal to NaN
        np.testing.assert_allclose(b, a, rtol=rtol, atol=atol, err_msg=where, equal_nan=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", programs.USUAL)
def test_workers_equal_one_process(name: str, found: list[dict[str, Any]]) -> None:
    program = programs.PROGRAMS[name]
    assert not isinstance(found[0][name], str), found[0][name]
    result, weights = plain(name)
    own_result, own_weights = found[0][name]
    assert_equal(result, own_result, program.history, AROUND_ZERO, "result")
    assert_equal(weights, own_weights, 0.0, program.weights, "weights")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", programs.USUAL)
def test_every_worker_ends_with_the_same_to_the_last_bit(
    name: str, found: list[dict[str, Any]]
) -> None:
    for other in found[1:]:
        assert_equal(found[0][name], other[name], 0.0, 0.0, name)


@pytest.mark.parametrize("kind", ["float32", "int32", "bfloat16"])
@pytest.mark.parametrize("count", [1, 1000, 300_000])
def test_small_tensors_are_gathered_and_all_are_added_up(
    count: int, kind: str, found: list[dict[str, Any]]
) -> None:
    """The sums are below 2 ** 8: bfloat16 has them exactly."""
    numbers = np.arange(count) % 7
    for worker in found:
        used, total = worker["sums"][f"{count} {kind}"]
        np.testing.assert_array_equal(total, sum(numbers + 10**i for i in range(len(found))))
        small = count <= 1000
        assert used == ["CollectiveGatherV2" if small else "CollectiveReduceV2"]


def test_plain_batch_normalization_agrees_and_is_the_mean(found: list[dict[str, Any]]) -> None:
    name = "plain batch normalization"
    for other in found[1:]:
        assert_equal(found[0][name], other[name], 0.0, 0.0, name)
    # One step, momentum 0.5, each worker on its own part of the batch.
    means, variances = [], []
    import keras

    for rows in np.split(programs.X[:96], len(found)):
        keras.utils.set_random_seed(programs.SEED)
        model = programs.classifier("sgd")
        activations = model.layers[0](rows).numpy()
        means.append(0.5 * activations.mean(0))
        variances.append(0.5 + 0.5 * activations.var(0))
    np.testing.assert_allclose(found[0][name][0], np.mean(means, 0), atol=1e-6)
    np.testing.assert_allclose(found[0][name][1], np.mean(variances, 0), atol=1e-6)


def test_each_worker_reads_its_rows_of_arrays_and_the_one_that_all_compare(
    found: list[dict[str, Any]],
) -> None:
    for number, worker in enumerate(found):
        expected = []
        for start in range(0, 105, programs.BATCH):
            total = min(programs.BATCH, 105 - start)
            low, high = (total * bound // len(found) for bound in (number, number + 1))
            expected += [start, *range(start + low, start + high)]
        assert worker["rows read"] == sorted(expected)


def test_every_worker_counts_the_examples_of_all_and_the_chief_tells(
    found: list[dict[str, Any]],
) -> None:
    for number, worker in enumerate(found):
        assert worker["examples"] == expected(SOME, number == 0)


def test_a_rate_is_scaled_by_the_workers(found: list[dict[str, Any]]) -> None:
    assert [worker["replicas in sync"] for worker in found] == [len(found)] * len(found)


@pytest.mark.parametrize("name", ["dropout", "verbose on the chief only", "after the mistakes"])
def test_the_workers_agree(name: str, found: list[dict[str, Any]]) -> None:
    for other in found[1:]:
        assert_equal(found[0][name], other[name], 0.0, 0.0, name)


def test_a_second_strategy_is_the_first_or_is_refused_by_its_name(
    found: list[dict[str, Any]],
) -> None:
    for one in found:
        assert one["the same strategy again"] is True
        assert one["another strategy"].startswith(
            "StrategyError: a second strategy with other options in a process that has made its "
            "job's strategy (multi_worker_mirrored) already"
        )
        assert "this one" in one["a server of its own"]
        assert "make one strategy in a process" in one["a server of its own"]


def test_a_callback_may_be_on_the_chief_only(found: list[dict[str, Any]]) -> None:
    name = "callbacks on the chief only"
    history, called = found[0][name]
    assert called == 3 * 4 + 3  # three epochs of four batches
    for other in found[1:]:
        assert other[name] == (history, 0)


def test_all_stop_when_one_worker_does(found: list[dict[str, Any]]) -> None:
    assert [worker["one worker stops"] for worker in found] == [[0]] * len(found)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("different data", "DataError: the workers read different data in the same step"),
        ("different epochs", "DataError: the workers called fit with different arguments (epochs"),
    ],
)
def test_what_differs_is_told_on_every_worker(
    name: str, says: str, found: list[dict[str, Any]]
) -> None:
    for worker in found:
        assert worker[name].startswith(says)
