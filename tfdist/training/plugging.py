"""`tfdist.plug`: the same Keras model, from now on trained by its strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import keras

from tfdist.compat import tf_strategies
from tfdist.errors import PlugError
from tfdist.training.plug_options import TrainingOptions
from tfdist.training.plugged import Plugged

__all__ = ["plug"]

Model = TypeVar("Model", bound=keras.Model)


def plug(
    model: Model,
    *,
    gradient_dtype: str | None = None,
    error_feedback: bool = False,
    local_steps: int = 1,
    outer_learning_rate: float = 1.0,
    outer_momentum: float = 0.0,
    cache_data: bool = False,
    fetch_every: int = 1,
    push_every: int = 1,
    local_learning_rate: float | None = None,
    warm_start: int = 0,
    shard_embeddings_from: int | None = 256 << 10,
    embedding_shards: int | None = None,
    exact_embeddings: bool = False,
    costs: Mapping[str, float] | None = None,
    memory_limit: float | None = None,
    **unknown: Any,
) -> Model:
    """Has a Keras model trained by the strategy in whose scope it was made.

    The model stays what it is: its class, `summary`, `save`, `get_config` and callbacks are as
    before, and a saved file loads where tfdist is not installed. Only its own `fit`, `evaluate`,
    `predict`, the three `..._on_batch`, `compile` and the methods that write files are replaced, on
    this one object; where its class has one of them itself, what that asks of `super()` is. A batch
    size, and a batch of a dataset, is always the global batch's.

    Args:
        model: a Sequential, functional or subclassed `keras.Model`, made inside
            `strategy.scope()`; compiled before or after.
        gradient_dtype: in step: "bfloat16" or "float16" sends gradients between replicas with half
            the bytes, where the network is the bottleneck; by default they travel as they are.
        error_feedback: in step, with a `gradient_dtype`: adds to each gradient what the rounding
            took from the one before it (Seide et al., 2014); costs one more copy of the weights.
        local_steps: in step: more than 1 has each replica take so many steps by itself before
            weights are brought together, for slow links (DiLoCo: Douillard et al., 2023). The
            results are no longer those of one machine.
        outer_learning_rate: with local steps: how far the weights move to the replicas' mean; 1 is
            plain averaging.
        outer_momentum: with local steps: Nesterov momentum of that outer update, from 0 to below 1.
        cache_data: in step: keeps this process's rows of a `tf.data.Dataset` in memory after the
            first pass; only for a dataset that gives the same batches in every epoch.
        fetch_every: parameter servers: a worker fetches the weights before every so many steps
            (Downpour SGD: Dean et al., 2012).
        push_every: parameter servers: a worker sends the sum of its gradients after every so many
            steps.
        local_learning_rate: parameter servers: of the plain SGD steps between two fetches; by
            default the optimizer's own.
        warm_start: parameter servers: so many steps are taken by one worker at a time before all
            begin.
        shard_embeddings_from: parameter servers: tables of embeddings from so many bytes on (256
            KiB by default) are sharded by rows over the servers; None shards none.
        embedding_shards: parameter servers: shards of each such table; by default one on each.
        exact_embeddings: parameter servers: has sharded tables updated as Keras updates a table in
            one process, every row at every step, at the price of reading and writing all of it.
        costs: pipelines: seconds that each layer takes for an example, forward and backward, by its
            name, as `tfdist.pipeline.measure_costs` returns them; by default they are estimated.
        memory_limit: pipelines: bytes that a task may hold of variables, gradients and optimizer
            slots; by default as many as come.
        **unknown: refused, with the nearest name that there is.

        What each means in full says `tfdist.training.plug_options.TrainingOptions`.

    Returns:
        The same model.

    Raises:
        PlugError: it is no Keras model, it was made outside of the scope, its class makes the
            function that takes steps, or an option is wrong.

    Example:
        >>> strategy = tfdist.strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        ...     model.compile(optimizer="adam", loss="mse")
        >>> tfdist.plug(model).fit(x, y, batch_size=256)
    """
    tf_strategies.read_as_one_number()
    if not isinstance(model, keras.Model):
        raise PlugError(
            f"plug takes a keras.Model, not {type(model).__module__}.{type(model).__name__}"
        )
    chosen = TrainingOptions.from_keywords(
        {
            **unknown,
            "gradient_dtype": gradient_dtype,
            "error_feedback": error_feedback,
            "local_steps": local_steps,
            "outer_learning_rate": outer_learning_rate,
            "outer_momentum": outer_momentum,
            "cache_data": cache_data,
            "fetch_every": fetch_every,
            "push_every": push_every,
            "local_learning_rate": local_learning_rate,
            "warm_start": warm_start,
            "shard_embeddings_from": shard_embeddings_from,
            "embedding_shards": embedding_shards,
            "exact_embeddings": exact_embeddings,
            "costs": costs,
            "memory_limit": memory_limit,
        }
    )
    plugged = Plugged.of(model)
    if plugged is None:
        Plugged(model, chosen)
    elif chosen not in (TrainingOptions(), plugged.options):
        raise PlugError(
            "the model is plugged already, with other options: give them the first time, or "
            "compile and plug a new model"
        )
    return model
