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
    measured: SeenProcess | None = None, network: Network = NETWORK, host: float = 0.0
) -> ServerSpeed:
    return ServerSpeed(Split(0.1, 0.0, host, 0.0), measured or seen(), network)


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
    found = speed(seen(tables=[table], dense_update_seconds=0.002))
    assert found.seen.fetched == pytest.approx(16 * MB)  # 10 as they are, and 200 of 1,000 rows
    assert found.seen.pushed == pytest.approx(16 * MB)
    assert found.step(1).update == pytest.approx(0.002 + 0.2 * 0.006)
    assert found.step(1).compute == pytest.approx(0.092)
    frozen = TableSize("items", 30 * MB, 0, height=100, ids=2)  # 200 ids, but no more rows
    found = speed(seen(tables=[frozen]))
    assert found.seen.fetched == pytest.approx(40 * MB)
    assert found.seen.pushed == pytest.approx(40 * MB)


def test_an_update_timed_apart_takes_no_more_than_all_of_the_compute() -> None:
    one = speed(seen(update_seconds=0.3)).step(1)
    assert (one.compute, one.update) == (0.0, 0.1)


def test_a_chief_that_reads_slowly_feeds_no_more_workers() -> None:
    # 400 kB of a batch take 0.1 ms more
    assert speed(host=0.05).step(4).seconds == pytest.approx(0.0501)


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
    found = ServerSpeed(
        Split(compute, 0.0, host, 0.0), seen(update_seconds=update), Network(*network)
    )
    one, many = found.step(1, servers), found.step(workers, servers)
    assert many.seconds >= one.seconds / workers - 1e-12
    updates = min(update, compute)
    assert many.seconds >= (80 * MB / network[1] + updates) / servers - 1e-12
    assert many.seconds >= host
    more = found.step(workers + 1, servers)
    assert more.examples_a_second >= many.examples_a_second * (1 - 1e-9)
    assert found.step(workers, servers + 1).seconds <= many.seconds * (1 + 1e-9)
