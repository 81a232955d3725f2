"""The table of what lives on which parameter server."""

from __future__ import annotations

import keras
import pytest

from tfdist.training.parameter_server.placement import Placed, describe_placement, placed

GOLDEN = """\
server  variables  parameters      size  share
ps:0            2      16,000  62.5 KiB    53%
ps:1            1       8,000  31.2 KiB    26%
ps:10           2       6,401  25.0 KiB    21%
users: 1,600 x 4 in 1 shard, on ps:10
model/items: 2,000 x 8 in 2 shards, on ps:0 and ps:1"""


def test_the_table_shows_servers_in_order_their_shares_and_the_shards() -> None:
    variables = [
        Placed("users/embeddings_shard_0", "ps:10", (1600, 4), 4),
        Placed("model/items/embeddings_shard_0", "ps:0", (1000, 8), 4),
        Placed("adagrad/model_items_embeddings_shard_0_accumulator", "ps:0", (1000, 8), 4),
        Placed("model/items/embeddings_shard_1", "ps:1", (1000, 8), 4),
        Placed("iteration", "ps:10", (), 8),
    ]
    assert describe_placement(variables) == GOLDEN


def test_more_than_two_servers_of_a_table_are_listed() -> None:
    variables = [Placed(f"e/embeddings_shard_{k}", f"ps:{k}", (1, 2), 4) for k in range(3)]
    assert describe_placement(variables).endswith("e: 3 x 2 in 3 shards, on ps:0, ps:1 and ps:2")


def test_no_variables_make_no_table_of_servers() -> None:
    assert describe_placement([]).splitlines() == ["server  variables  parameters  size  share"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(1023, "1023 B"), (1024, "1.0 KiB"), (3 << 20, "3.0 MiB"), (5 << 30, "5.0 GiB")],
)
def test_sizes_are_in_binary_units(size: int, text: str) -> None:
    assert text in describe_placement([Placed("v", "ps:0", (size,), 1)])


def test_variables_of_a_local_model_are_in_this_process_and_counted_once() -> None:
    layer = keras.layers.Dense(3, dtype="float64")
    layer.build((None, 2))
    found = placed([*layer.weights, *layer.weights])
    assert [(p.task, p.parameters, p.bytes) for p in found] == [
        ("this process", 6, 48),
        ("this process", 3, 24),
    ]


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Placed("v", "ps:0", (-1,), 4)
