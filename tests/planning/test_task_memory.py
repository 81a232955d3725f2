"""What a task takes, from what one worker and two have shown."""

from __future__ import annotations

import dataclasses

import pytest

from tests.planning.plans import MB, memory, seen
from tfdist.planning.seen_process import SeenProcess, TableSize
from tfdist.planning.task_memory import MemoryPlan


def test_what_was_measured_is_what_is_told() -> None:
    assert memory().workers(1).total == 1000 * MB
    assert memory().workers(2).total == 950 * MB


def test_the_parts_of_one_worker_are_what_it_holds() -> None:
    parts = memory().workers(1).parts
    assert parts == {
        "program": 640 * MB,
        "weights": 40 * MB,
        "gradients": 40 * MB,
        "slots": 80 * MB,
        "activations": 200 * MB,
        "exchange": 0,
    }


def test_more_workers_have_fewer_rows_each_and_the_same_exchange() -> None:
    two, four = memory().workers(2), memory().workers(4)
    assert (two.activations, four.activations) == (100 * MB, 50 * MB)
    assert two.exchange == four.exchange == 50 * MB
    assert (two.is_measured, four.is_measured) == (True, False)


def test_a_batch_that_grows_leaves_each_worker_its_rows() -> None:
    grown = memory(rows_each=100)
    assert grown.batch_grows
    assert [grown.workers(count).activations for count in (1, 2, 8)] == [200 * MB] * 3
    assert grown.workers(2).total == 1050 * MB


def test_stages_share_what_a_layer_holds() -> None:
    first, second = memory().pipeline
    assert (first.weights, second.weights) == (30 * MB, 10 * MB)
    assert (first.slots, second.slots) == (60 * MB, 20 * MB)
    assert (first.activations, second.activations) == (150 * MB, 50 * MB)


def test_a_model_that_cannot_be_cut_has_no_pipeline() -> None:
    assert MemoryPlan(seen(no_pipeline="it is subclassed"), seen(50)).pipeline == []


def test_servers_share_weights_and_slots_and_workers_have_no_slots() -> None:
    worker, server = memory().servers(workers=3, servers=2)
    assert (worker.tasks, worker.slots, worker.weights) == (3, 0, 40 * MB)
    assert (server.tasks, server.weights, server.slots) == (2, 20 * MB, 40 * MB)
    assert server.program == 560 * MB
    assert worker.exchange == 80 * MB  # messages of weights and of gradients
    # Of each of three workers 40 MB of gradients arrive and 40 MB of weights leave, each twice.
    assert (server.gradients, server.exchange) == (60 * MB, 180 * MB)


def test_of_a_table_workers_hold_the_rows_that_they_fetch() -> None:
    table = TableSize("items", 30 * MB, 30 * MB, height=1000, ids=1)
    worker, server = MemoryPlan(seen(tables=[table]), seen(50)).servers(workers=1)
    assert (worker.weights, worker.gradients) == (13 * MB, 13 * MB)
    assert (server.weights, server.slots) == (40 * MB, 80 * MB)
    assert server.gradients + server.exchange == 4 * 13 * MB


def test_a_peak_below_its_parts_leaves_nothing_negative() -> None:
    small = MemoryPlan(seen(peak=100 * MB), seen(50, 100 * MB))
    assert small.workers(1).program == 0
    assert small.workers(2).exchange == 0


def test_a_host_and_a_gpu_are_not_put_together() -> None:
    with pytest.raises(ValueError, match="in one place"):
        MemoryPlan(seen(), dataclasses.replace(seen(50), place="gpu"))


def test_json_brings_back_what_was_seen() -> None:
    import json

    assert SeenProcess.from_json(json.dumps(dataclasses.asdict(seen()))) == seen()


def test_a_measurement_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="rows=0"):
        seen(rows=0)
