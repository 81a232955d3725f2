"""The arithmetic of `tfdist bench`: the ring, its fit, and what follows."""

from __future__ import annotations

import pytest

from tfdist.bench.model import Network, Split, advise, step_seconds

SPLIT = Split(compute=8e-3, all_reduce=3e-3, input=1e-3, python=1e-3)
NETWORK = Network(alpha=1e-4, beta=1e9)


def test_a_ring_of_two_sends_each_half_twice() -> None:
    assert NETWORK.all_reduce(2, 1e6) == pytest.approx(2 * 1e-4 + 1e6 / 1e9)


def test_a_small_tensor_is_gathered_in_half_the_messages() -> None:
    assert NETWORK.all_reduce(2, 1e4) == pytest.approx(1e-4 + 1e4 / 1e9)
    assert NETWORK.all_reduce(8, 8e3) == pytest.approx(7 * (1e-4 + 8e3 / 1e9))
    assert NETWORK.all_reduce(8, 1e5) == pytest.approx(14 * (1e-4 + 1e5 / 8 / 1e9))


def test_the_bytes_of_a_ring_hardly_grow_with_its_workers() -> None:
    swift = Network(alpha=0.0, beta=1e9)
    assert swift.all_reduce(512, 1e6) == pytest.approx(2 * 511 / 512 * 1e-3)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_latency_and_bandwidth_are_found_again(workers: int) -> None:
    sizes = [4, 2**14, 2**18, 2**21, 2**23]
    fitted = Network.fitted(workers, [(size, NETWORK.all_reduce(workers, size)) for size in sizes])
    assert (fitted.alpha, fitted.beta) == pytest.approx((1e-4, 1e9))


def test_noise_does_not_make_a_latency_negative() -> None:
    fitted = Network.fitted(2, [(1e6, 0.9e-3), (2e6, 2e-3), (4e6, 4.1e-3)])
    assert fitted.alpha == 0
    assert fitted.beta == pytest.approx(1e9, rel=0.1)


def test_a_network_whose_bytes_cost_nothing_keeps_its_latency() -> None:
    fitted = Network.fitted(2, [(4, 1e-4), (1e6, 1.9e-4)])
    assert fitted.alpha == pytest.approx(1e-4, rel=0.1)
    assert fitted.all_reduce(2, 1e6) == pytest.approx(2e-4, rel=0.1)


def test_one_size_fits_nothing() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        Network.fitted(2, [(4, 1e-3), (4, 1.1e-3)])


def test_a_calibrated_network_gives_the_models_own_all_reduce_back() -> None:
    calibrated = NETWORK.calibrated(2, 1e6, 3e-3)
    assert calibrated.all_reduce(2, 1e6) == pytest.approx(3e-3)
    assert calibrated.calibrated(2, 1e6, 3e-3) == calibrated


def test_one_worker_exchanges_nothing() -> None:
    assert step_seconds(SPLIT, 1e6, NETWORK, 1) == pytest.approx(10e-3)


def by_option(split: Split, size: float, network: Network) -> dict[str, bool]:
    return {advice.option: advice.pays for advice in advise(split, size, network, 16)}


def test_on_a_slow_link_half_the_bytes_and_local_steps_pay() -> None:
    advice = by_option(SPLIT, 1e7, Network(alpha=1e-6, beta=1e8))
    assert list(advice.values()) == [True, True, True, False]


def test_where_nothing_is_exchanged_only_less_compute_pays() -> None:
    advice = by_option(SPLIT, 1e3, Network(alpha=1e-9, beta=1e12))
    assert advice['tfdist.plug(model, gradient_dtype="bfloat16")'] is False
    assert advice["tfdist.plug(model, local_steps=16)"] is False
    assert advice["model.compile(..., jit_compile=True)"] is True


def test_half_the_bytes_do_not_help_against_latency() -> None:
    advice = by_option(SPLIT, 1e3, Network(alpha=1e-3, beta=1e9))
    assert advice['tfdist.plug(model, gradient_dtype="bfloat16")'] is False
    assert advice["tfdist.plug(model, local_steps=16)"] is True
