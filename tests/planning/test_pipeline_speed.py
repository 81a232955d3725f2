"""A pipeline's step, from what one worker and two have shown."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planning.plans import LAYERS, MB, seen
from tfdist.bench.model import Network, Split
from tfdist.planning.pipeline_speed import PipelineSpeed
from tfdist.planning.predicted_step import PredictedStep
from tfdist.planning.seen_process import LayerSize
from tfdist.planning.stage_cuts import cut_layers

EVEN = [dataclasses.replace(layer, operations=2.0) for layer in LAYERS]
FAST = Network(0.0, 1e15)
SLOW = Network(0.001, 7.5e6)


def layer(operations: float, crossing: int = 0) -> LayerSize:
    return LayerSize("one", 0, MB, MB, 100, crossing, operations)


def speed(network: Network = FAST, alone: float = 0.1, host: float = 0.0) -> PipelineSpeed:
    # 90 ms for the rows and 10 for the update; all of `host`, the input, was hidden behind them
    measured = seen(layers=EVEN, growing=0.09 / alone, update=0.01 / alone)
    return PipelineSpeed(Split(alone - host, 0.0, host, 0.004), measured, network)


def step(found: PipelineSpeed, stages: int = 2) -> PredictedStep:
    told = found.step(stages)
    assert told is not None
    return told


def test_even_stages_take_what_1f1b_takes_and_update_their_own_weights() -> None:
    two = step(speed())
    # 90 ms of 100 rows: a microbatch of 25 in half of the layers takes 11.25 ms; 4 + 1 of them
    assert two.compute == pytest.approx(4 * 0.01125)
    assert two.waiting == pytest.approx(0.01125)
    assert two.update == pytest.approx(0.0075)  # 30 of 40 MB of gradients
    assert two.transfer == pytest.approx(0.0, abs=1e-9)
    assert two.host == pytest.approx(0.004)
    assert two.seconds == pytest.approx(0.05625 + 0.0075 + 0.004)
    assert two.examples_a_second == pytest.approx(100 / two.seconds)


def test_what_each_run_of_the_layers_takes_is_taken_for_each_microbatch() -> None:
    two = step(speed(alone=0.12))  # 20 ms more, whatever the rows
    assert two.compute == pytest.approx(4 * (0.01125 + 0.01))


def test_input_that_was_hidden_is_computing_and_hidden_again() -> None:
    assert step(speed(host=0.06)).parts == pytest.approx(step(speed()).parts)
    # but no step ends before its input is read
    two = step(speed(host=0.09))
    assert two.seconds == pytest.approx(0.09 + 0.004)
    assert two.host == pytest.approx(0.09 - (0.05625 + 0.0075) + 0.004)


def test_tensors_between_stages_take_what_the_exchange_of_workers_in_step_takes_more() -> None:
    alpha, beta = SLOW.alpha, SLOW.beta
    worse = speed(Network(alpha, beta, overhead=3.0))
    assert step(worse) == step(speed(Network(3 * alpha, beta / 3)))


def test_transfers_hold_up_the_stages_as_drawn_by_hand() -> None:
    two = step(speed(SLOW))
    # 25 rows of 300 bytes at 7.5 MB/s, and the latency: 2 ms a border. Forward 3.75, backward
    # 7.5 ms. Stage 0: F0 0, F1 3.75, B0 19, F2 26.5, B1 30.25, F3 37.75, B2 45.5, B3 56.75 to
    # 64.25 instead of 56.25. Before it 25 rows of 4,000 bytes come, after it the chief is told.
    fed = 0.001 + 25 * 4000 / 7.5e6 + 0.001
    assert two.transfer == pytest.approx(0.008 + fed)
    assert two.compute == pytest.approx(step(speed()).compute)


def test_the_slowest_stage_is_told() -> None:
    uneven = PipelineSpeed(Split(0.1, 0.0, 0.0, 0.0), seen(growing=1.0), FAST)
    assert step(uneven).compute == pytest.approx(0.075)  # 3 of 4 operations


def test_fewer_layers_than_stages_are_no_pipeline() -> None:
    assert speed().step(3) is None
    none = PipelineSpeed(Split(0.1, 0.0, 0.0, 0.0), seen(no_pipeline="it is subclassed"), FAST)
    assert none.step(2) is None


def test_stages_beyond_two_are_cut_by_costs_and_by_what_crosses() -> None:
    layers = [layer(1.0), layer(1.0), layer(1.0), layer(3.0)]
    assert [len(own) for own in cut_layers(layers, 3)] == [1, 2, 1]
    layers = [layer(1.0, crossing=10), layer(1.0), layer(1.0, crossing=10), layer(3.0)]
    assert [len(own) for own in cut_layers(layers[:3], 3)] == [1, 1, 1]
    assert [own.operations for stage in cut_layers(layers, 4) for own in stage] == [1, 1, 1, 3]


seconds = st.floats(1e-6, 10.0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are busy
@given(
    st.lists(st.floats(1.0, 1e6), min_size=2, max_size=8),
    st.integers(2, 8),
    st.tuples(seconds, st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    st.tuples(st.floats(0.0, 1.0), st.floats(1e3, 1e12)),
)
def test_no_pipeline_beats_its_busiest_stage_nor_gets_faster_by_a_slower_network(
    costs: list[float],
    stages: int,
    times: tuple[float, float, float],
    network: tuple[float, float],
) -> None:
    layers = [
        dataclasses.replace(layer(cost, crossing=100), stage=int(2 * i >= len(costs)))
        for i, cost in enumerate(costs)
    ]
    compute, growing, update = times
    measured = seen(layers=layers, growing=growing, update=update)
    alone = Split(compute, 0.0, 0.0, 0.0)
    found = PipelineSpeed(alone, measured, Network(*network)).step(stages)
    if len(layers) < stages:
        assert found is None
        return
    assert found is not None
    assert found.seconds >= found.compute
    # The busiest stage computes and updates no less than the mean of all.
    assert (found.compute + found.update) * stages >= compute * (1 - 1e-9)
    alpha, beta = network
    slower = PipelineSpeed(alone, measured, Network(2 * alpha, beta / 2)).step(stages)
    assert slower is not None
    assert slower.seconds >= found.seconds - 1e-9
    quick = PipelineSpeed(alone, measured, FAST).step(stages)
    assert quick is not None
    assert quick.seconds <= found.seconds + 1e-9


def test_a_step_without_seconds_is_refused() -> None:
    with pytest.raises(ValueError, match="not all are 0"):
        PredictedStep("none", 1, 1, 10, 0.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="a row at least"):
        PredictedStep("none", 1, 1, 0, 0.1, 0.0, 0.0, 0.0, 0.0)
