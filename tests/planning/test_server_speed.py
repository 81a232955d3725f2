"""A step with parameter servers, from what one worker and two have shown."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planning.plans import MB, seen
from tfdist.bench.model import Network, Split
from tfdist.planning.seen_process import SeenProcess, TableSize
from tfdist.planning.server_speed import ServerSpeed

NETWORK = Network(0.001, 4e9)  # 80 MB there and back: 20 ms


def speed(
    measured: SeenProcess | None = None, network: Network = NETWORK, python: float = 0.0
) -> ServerSpeed:
    return ServerSpeed(Split(0.1, 0.0, 0.0, python), measured or seen(), network)


def test_a_worker_fetches_computes_pushes_and_waits_for_the_update() -> None:
    one = speed().step(1)
    assert one.strategy == "1 worker, 1 ps"
    assert one.compute == pytest.approx(0.092)  # the update is the server's
    assert one.transfer == pytest.approx(0.022)
    assert one.update == pytest.approx(0.008)
    assert one.waiting == 0.0
    assert one.seconds == pytest.approx(0.122)


def test_workers_do_not_wait_for_each_other_until_the_server_is_busy() -> None:
    two, eight = speed().step(2), speed().step(8)
    assert two.seconds == pytest.approx(0.061)
    assert two.examples_a_second == pytest.approx(100 / 0.061)
    assert eight.seconds == pytest.approx(0.028)  # 20 ms of bytes and 8 of updates a step
    assert eight.waiting == pytest.approx(8 * 0.028 - 0.122)


def test_more_servers_share_bytes_and_updates() -> None:
    eight = speed().step(8, servers=2)
    assert eight.update == pytest.approx(0.004)
    assert eight.seconds == pytest.approx((0.092 + 0.022 + 0.004) / 8)
    assert speed().step(100, servers=2).seconds == pytest.approx(0.014)


def test_a_table_moves_the_rows_that_a_batch_names() -> None:
    table = TableSize("items", 30 * MB, 30 * MB, height=1000, ids=2)
    found = speed(seen(tables=[table], dense_update=0.02))
    assert found.seen.fetched == pytest.approx(16 * MB)  # 10 as they are, and 200 of 1,000 rows
    assert found.seen.pushed == pytest.approx(16 * MB)
    assert found.step(1).update == pytest.approx(0.002 + 0.2 * 0.006)
    assert found.step(1).compute == pytest.approx(0.092)
    frozen = TableSize("items", 30 * MB, 0, height=100, ids=2)  # 200 ids, but no more rows
    found = speed(seen(tables=[frozen]))
    assert found.seen.fetched == pytest.approx(40 * MB)
    assert found.seen.pushed == pytest.approx(40 * MB)


def test_a_part_of_the_step_is_no_more_than_the_step() -> None:
    with pytest.raises(ValueError, match="parts are 0 to 1"):
        seen(update=3.0)
    with pytest.raises(ValueError, match="parts are 0 to 1"):
        seen(growing=-0.1)


def test_workers_wait_for_a_slow_chief_and_not_for_a_server() -> None:
    four = speed(python=0.05).step(4)
    assert four.seconds == pytest.approx(0.0501)  # 400 kB of a batch take 0.1 ms more
    assert four.waiting == 0.0
    assert four.host == pytest.approx(4 * 0.0501 - 0.122)
    sixteen = speed(python=0.03).step(16)  # 2.1 ms slower than the server, which is busy as well
    assert sixteen.waiting == pytest.approx(16 * 0.028 - 0.122)
    assert sixteen.host == pytest.approx(16 * (0.0301 - 0.028))


def test_input_that_was_hidden_is_no_time_that_servers_save() -> None:
    # a step of 8 ms, behind which 6 ms of input were hidden
    alone = Split(0.002, 0.0, 0.006, 0.0)
    found = ServerSpeed(alone, seen(update=0.0), Network(0.0, 1e15))
    assert found.step(1).seconds == pytest.approx(alone.total, rel=1e-4)
    assert found.step(2).seconds == pytest.approx(0.006, rel=1e-4)  # the chief reads no faster


def test_messages_take_what_the_exchange_of_workers_in_step_takes_more() -> None:
    worse = speed(network=Network(0.001, 4e9, overhead=3.0), python=0.05)
    as_slow = speed(network=Network(0.003, 4e9 / 3), python=0.05)
    for workers in (1, 4, 64):
        assert worse.step(workers) == as_slow.step(workers)


seconds = st.floats(0.0, 1.0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are busy
@given(
    st.integers(1, 64),
    st.integers(1, 8),
    st.tuples(st.floats(1e-4, 10.0), seconds, seconds),
    st.tuples(st.floats(0.0, 0.1), st.floats(1e5, 1e12)),
)
def test_neither_the_workers_nor_the_servers_are_beaten(
    workers: int, servers: int, times: tuple[float, float, float], network: tuple[float, float]
) -> None:
    compute, update, host = times
    found = ServerSpeed(Split(compute, 0.0, host, 0.0), seen(update=update), Network(*network))
    one, many = found.step(1, servers), found.step(workers, servers)
    assert many.seconds >= one.seconds / workers - 1e-12
    updates = update * (compute + host)
    assert many.seconds >= (80 * MB / network[1] + updates) / servers - 1e-12
    assert many.seconds >= host
    more = found.step(workers + 1, servers)
    assert more.examples_a_second >= many.examples_a_second * (1 - 1e-9)
    assert found.step(workers, servers + 1).seconds <= many.seconds * (1 + 1e-9)
