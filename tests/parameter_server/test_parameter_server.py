"""Real chiefs, workers and parameter servers do what one process of plain Keras does, or say so."""

from __future__ import annotations

import contextlib
import pickle
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import tfdist
from tests.conftest import RunJob
from tests.multi_worker import programs
from tests.multi_worker.programs import LABELS, X
from tests.multi_worker.test_workers import assert_equal
from tests.parameter_server import more
from tests.training import comparing
from tests.training.examples_counted import SOME, expected

pytestmark = pytest.mark.timeout(300)
WORKERS = 3


def _run(run_job: RunJob, folder: Path, workers: int) -> dict[str, Any]:
    script = Path(__file__).with_name("job.py")
    ran = run_job(["--workers", workers, "--ps", 2, script, folder], timeout=280)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    found: dict[str, Any] = pickle.loads((folder / "found.pickle").read_bytes())
    return {**found, "output": ran.stdout + ran.stderr, "folder": folder}


@pytest.fixture(scope="module")
def one(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a chief with one worker and two ps tasks has found."""
    return _run(run_job, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def several(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a chief with three workers and two ps tasks has found."""
    return _run(run_job, tmp_path_factory.mktemp("several"), WORKERS)


@pytest.mark.parametrize("name", more.SAME)
def test_one_worker_equals_one_process(name: str, one: dict[str, Any]) -> None:
    program = programs.PROGRAMS[name]
    result, weights = programs.run(name, contextlib.nullcontext(), lambda model: model)
    assert not isinstance(one[name], str), one[name]
    assert_equal(result, one[name][0], program.history, 1e-7, "result")
    assert_equal(weights, one[name][1], program.weights, program.weights, "weights")


@pytest.mark.parametrize("name", more.OPTIMIZERS)
def test_sharded_tables_learn_and_are_saved_as_plain_ones(name: str, one: dict[str, Any]) -> None:
    there = one[f"sharded, {name}"]
    assert sum("embeddings_shard" in path for path in there["variables"]) == 2
    keras.utils.set_random_seed(programs.SEED)
    plain = more.recommender(more.OPTIMIZERS[name]())
    loaded = keras.models.load_model(there["file"])
    assert type(loaded.layers[0]) is layers.Embedding
    # TensorFlow's sparse kernels round their roots differently from Keras' dense formulas.
    assert_equal(more.fit(plain), there["history"], 1e-4, 1e-7, "history")
    assert_equal(plain.get_weights(), loaded.get_weights(), 1e-4, 2e-6, "weights")
    slots = [[np.asarray(v) for v in model.optimizer.variables] for model in (plain, loaded)]
    assert_equal(slots[0], slots[1], 1e-4, 1e-5, "slots")


@pytest.mark.parametrize("name", more.EXACT)
def test_exact_tables_are_those_of_one_process(name: str, one: dict[str, Any]) -> None:
    there = one[f"exact, {name}"]
    assert not isinstance(there, str), there
    assert sum("embeddings_shard" in path for path in there["variables"]) == 2
    keras.utils.set_random_seed(programs.SEED)
    plain = more.recommender(more.EXACT[name]())
    loaded = keras.models.load_model(there["file"])
    assert_equal(more.fit(plain, *more.TWICE), there["history"], comparing.HISTORY, 1e-7, "history")
    atol = comparing.ADAM_WEIGHTS
    assert_equal(plain.get_weights(), loaded.get_weights(), 0.0, atol, "weights")
    slots = [[np.asarray(v) for v in model.optimizer.variables] for model in (plain, loaded)]
    assert_equal(slots[0], slots[1], 0.0, atol, "slots")


def test_local_steps_of_one_worker_are_plain_sgd(one: dict[str, Any]) -> None:
    keras.utils.set_random_seed(programs.SEED)
    plain = programs.classifier(optimizers.SGD(0.05), layers.BatchNormalization())
    history = plain.fit(X, LABELS, 16, epochs=2, shuffle=False, verbose=0).history
    found, weights, counted = one["downpour"]
    assert_equal(history, found, 1e-5, 1e-7, "history")
    assert_equal(plain.get_weights(), weights, 1e-5, 2e-6, "weights")
    assert counted == {"iterations": int(plain.optimizer.iterations), "examples": len(X)}


@pytest.fixture(scope="module")
def three_epochs() -> list[np.ndarray]:
    """The weights of one process of plain Keras that nobody has disturbed."""
    keras.utils.set_random_seed(programs.SEED)
    plain = more.recommender(optimizers.Adam(0.05))
    more.fit(plain, *more.TWICE[:1], 3)
    weights: list[np.ndarray] = plain.get_weights()
    return weights


def test_checkpoints_go_on_whoever_writes_them_and_however_tables_are_cut(
    one: dict[str, Any], three_epochs: list[np.ndarray]
) -> None:
    found = one["kept_by_servers"]
    assert not isinstance(found, str), found
    names = ["epoch-00001.sharded", "epoch-00002.keras", "epoch-00003.sharded"]
    assert found["files"] == names
    atol = comparing.ADAM_WEIGHTS
    assert_equal(three_epochs, found["weights"], 0.0, atol, "weights")
    assert "retracing" not in one["output"]  # TensorFlow's warning at the fifth checkpoint


def test_one_process_goes_on_from_what_servers_have_written(
    one: dict[str, Any], three_epochs: list[np.ndarray]
) -> None:
    folder = one["folder"] / "one epoch"
    files = sorted(p.name for p in (folder / "epoch-00001.sharded").iterdir())
    written = [f"variables.data-0000{k}-of-00003" for k in range(3)]  # the chief's: what is where
    assert files == ["state.zip", *written, "variables.index"]
    keras.utils.set_random_seed(programs.SEED)
    with tfdist.strategy("one_device").scope():
        model = more.recommender(optimizers.Adam(0.05))
    keep = tfdist.callbacks.Checkpoint(folder, sharded=True)
    more.fit(tfdist.plug(model), *more.TWICE[:1], 3, callbacks=[keep])
    assert model.history.epoch == [1, 2]
    assert keep.latest is not None
    assert keep.latest.path.name == "epoch-00003.keras"
    atol = comparing.ADAM_WEIGHTS
    assert_equal(three_epochs, model.get_weights(), 0.0, atol, "weights")


def test_what_is_not_finite_on_one_server_is_no_checkpoint(one: dict[str, Any]) -> None:
    stale, names = one["not_finite_on_one_server"]
    assert stale
    assert names == ["checkpoint.json", "epoch-00001.sharded", "not-finite.sharded"]
    assert re.search(r"embeddings has numbers that are not finite: saved as .*/not-", one["output"])


def test_servers_that_do_not_see_the_folder_are_told(one: dict[str, Any]) -> None:
    assert one["written by the chief"] == ["checkpoint.json", "epoch-00001.keras"]
    assert re.search(r"is not there on ps:0, ps:1: the chief writes the checkp", one["output"])
    told = one["servers_that_do_not_see_it"]
    assert re.match(
        r"CheckpointError: sharded=True, but /proc/.* is not there on ps:0, ps:1: give", told
    )


def test_no_step_and_no_count_of_several_workers_is_lost(several: dict[str, Any]) -> None:
    counted = several["thousand_steps"]
    assert counted["iterations"] == 1000
    assert counted["examples"] == 4000
    assert 1 / 3 < counted["accuracy"] <= 1  # better than chance: it has learnt


def test_each_worker_reads_its_own_data_once(several: dict[str, Any]) -> None:
    found = several["own_pipelines"]
    assert found["asked"] == [(WORKERS, worker) for worker in range(WORKERS)]
    assert found["examples"] == len(X)
    assert found["iterations"] == 2 * WORKERS * -(-len(X) // WORKERS // 4)
    np.testing.assert_allclose(found["same"][0], found["same"][1], rtol=1e-5)
    assert found["evaluated"] == [len(X), len(X)]
    assert found["endless"]["iterations"] == 21
    assert 21 * 3 <= found["endless"]["examples"] <= 21 * 4  # the last batch of a worker has 3


@pytest.mark.parametrize("what", ["predict", "evaluate"])
def test_every_example_is_evaluated_and_predicted_once(what: str, several: dict[str, Any]) -> None:
    ours, plain = several["in_order"][what]
    assert_equal(plain, ours, 1e-5, 1e-6, what)
    assert several["in_order"]["evaluated"] == len(X)


def test_an_error_of_a_worker_is_told_once(several: dict[str, Any]) -> None:
    assert several["function_error"].startswith("InvalidArgumentError")
    assert "not to be met" in several["function_error"]
    assert "encountered the following error" not in several["output"]


def test_training_goes_on_after_an_error(several: dict[str, Any]) -> None:
    assert several["works_after_an_error"]["examples"] == len(X)
    assert several["works_after_an_error"]["iterations"] == 21


def test_callbacks_see_whole_epochs(several: dict[str, Any]) -> None:
    found = several["callbacks"]
    epochs = [dict(logs) for _, logs in found["epochs"]]
    assert len(epochs) == 2  # EarlyStopping
    assert [logs["val_loss"] for logs in epochs] == found["history"]["val_loss"]
    assert found["batches"] == list(range(15))
    assert found["board"]


def test_a_checkpoint_is_resumed(several: dict[str, Any]) -> None:
    assert several["callbacks"]["resumed"] == several["callbacks"]["history"]  # both were there
    assert "epoch-00002.keras" in several["callbacks"]["files"]


def test_a_model_made_outside_of_the_scope_is_refused(several: dict[str, Any]) -> None:
    assert several["outside"].startswith(
        "PlugError: the model was made outside of strategy.scope()"
    )


def test_one_worker_begins_alone(several: dict[str, Any]) -> None:
    assert several["warm_start"]["iterations"] == 3 * 21
    assert several["warm_start"]["examples"] == len(X)
    first, second, third, _ = several["warm_start"]["under_way"]
    assert first == 1  # the first epoch has as many steps as are warm
    assert min(second, third) > 1


def test_the_chief_counts_the_examples_of_all_workers(several: dict[str, Any]) -> None:
    assert several["examples"] == expected(SOME)


def test_batches_of_many_shapes_wait_for_a_slot(several: dict[str, Any]) -> None:
    found = several["many_shapes"]
    assert not isinstance(found, str), found
    assert found["iterations"] == 24
    assert found["examples"] == 24 * 4
    # Nothing that the servers have made is missing from what is kept.
    assert found["kept"]
    assert [step for step, _ in found["kept"]] == [made for _, made in found["kept"]]


@pytest.mark.parametrize("name", more.REFUSED)
def test_what_it_cannot_do_is_refused_at_once(name: str, several: dict[str, Any]) -> None:
    assert several[name].startswith("PlugError")
    assert name in several[name]
