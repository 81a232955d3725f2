"""`tfdist.plug`: the same Keras model, from now on trained by its strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

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
    data_on_device: bool | None = None,
    virtual_replicas: int | None = None,
    shard_optimizer: bool = False,
    fetch_every: int = 1,
    push_every: int = 1,
    local_learning_rate: float | None = None,
    warm_start: int = 0,
    max_staleness: int | None = None,
    backup_workers: int | None = None,
    shard_embeddings_from: int | None = 256 << 10,
    embedding_shards: int | None = None,
    exact_embeddings: bool = False,
    costs: Mapping[str, float] | None = None,
    memory_limit: float | None = None,
    **unknown: object,
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
            the bytes, where the network is the bottleneck; the update itself stays in the
            variables' own precision, and sparse gradients (of embeddings) are sent as they are.
            "float16" overflows above 65,504: use it with loss scaling or small gradients only.
        error_feedback: in step, with a `gradient_dtype`: adds to each gradient what the rounding
            took from the one before it (Seide et al., 1-Bit Stochastic Gradient Descent, 2014);
            costs one more copy of the weights on each replica.
        local_steps: in step: H > 1 has each replica take H steps by itself before the replicas'
            weights are brought together, for slow links (DiLoCo: Douillard et al., 2023). The
            results are no longer those of one machine.
        outer_learning_rate: with local steps: how far the weights move to the replicas' mean; 1 is
            plain averaging of the weights.
        outer_momentum: with local steps: Nesterov momentum of that outer update, from 0 to below 1.
            DiLoCo takes 0.9 with a rate of 0.7, for hundreds of local steps and long trainings;
            with few, such steps are too large.
        cache_data: in step: keeps this process's rows of a `tf.data.Dataset` in memory after the
            first pass of a `fit`; only for a dataset that gives the same batches in every epoch.
        data_on_device: in step, on GPUs: whether `fit` and `evaluate` put the arrays that they are
            given on each replica's GPU, where steps take their rows; None puts those there that
            take at most 1 GiB, and a tenth of what the task may use of the GPU. Other data travel
            one step ahead.
        virtual_replicas: in step, one device a worker: cuts the global batch into so many slices,
            whatever the number of workers is, computes each slice's gradients by themselves and
            adds them up in one order. So weights and optimizer slots have the same bits on any
            number of workers up to it, also when that changes in the middle of a training; give
            every task one thread (`tfdist run --threads 1`), since TensorFlow's convolutions add up
            in as many parts as they have threads. A power of two is best, such as 8; a step costs
            more, the more slices a worker has.
        shard_optimizer: in step: has each replica keep and update its share of the optimizer's
            slots alone (Adam's moments, moving averages, accumulated gradients), one in N of their
            numbers, and gather the new weights from the others (ZeRO: Rajbhandari et al., 2020,
            stages 1 and 2). Weights are those of a run without it, a step sends as many bytes, and
            files hold whole slots: every worker must call `model.save`. For Keras' elementwise
            optimizers, such as SGD, Adam and AdamW.
        fetch_every: parameter servers: a worker fetches the weights before every so many steps, and
            goes on with its own copy in between (Downpour SGD: Dean et al., 2012).
        push_every: parameter servers: a worker sends the sum of its gradients after every so many
            steps.
        local_learning_rate: parameter servers: of the plain SGD steps on that copy; by default the
            optimizer's own.
        warm_start: parameter servers: so many steps are taken by one worker at a time before all
            begin.
        max_staleness: parameter servers: steps of others that an update may miss of those that
            were made since its worker read the weights; workers wait where it would be more. With
            0 steps are taken one after the other, as in one process. The logs of `fit` have
            "staleness_mean" and "staleness_max". By default any number.
        backup_workers: parameter servers: has them train in step, with so many workers to spare
            (after Chen et al., Revisiting Distributed Synchronous SGD, 2016). Each batch is one
            update, as in one process, cut in as many parts as there are other workers; a part that
            is late is handed out again, and a worker that is slow is left out. No row is dropped:
            weights do not depend on who was late. 0 spares none. By default workers do not wait
            for each other at all. Embeddings are not sharded.
        shard_embeddings_from: parameter servers: tables of embeddings from so many bytes on (256
            KiB by default) are sharded by rows over the servers; None shards none.
        embedding_shards: parameter servers: shards of each such table; by default one on each.
        exact_embeddings: parameter servers: has sharded tables updated as Keras updates a table in
            one process, so that one worker's numbers are that process' with any elementwise
            optimizer: the moments of Adam, RMSprop or momentum decay and move their rows at every
            step, looked up or not, weight decay reaches every row, and an id that a batch has twice
            counts twice. Without it only the rows of the batch are touched. The price: at every
            step each server reads and writes the whole of its shards and their slots (of a table of
            1 GB with Adam's two moments at least 3 GB read and 3 GB written), and every id of a
            batch travels, not only the distinct ones.
        costs: pipelines: seconds that each layer takes for an example, forward and backward, by its
            name, as `tfdist.pipeline.measure_costs` returns them: the automatic split balances
            these; by default they are estimated from the layers' shapes.
        memory_limit: pipelines: bytes that a task may hold of variables, gradients and optimizer
            slots (two are counted), by default as many as come; activations, which depend on the
            batch, come on top.
        **unknown: refused, with the nearest name that there is.

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
    given = {name: value for name, value in locals().items() if name not in ("model", "unknown")}
    tf_strategies.read_as_one_number()
    if not isinstance(model, keras.Model):
        raise PlugError(
            f"plug takes a keras.Model, not {type(model).__module__}.{type(model).__name__}"
        )
    chosen = TrainingOptions.from_keywords({**unknown, **given})
    plugged = Plugged.of(model)
    if plugged is None:
        Plugged(model, chosen)
    elif chosen not in (TrainingOptions(), plugged.options):
        raise PlugError(
            "the model is plugged already, with other options: give them the first time, or "
            "compile and plug a new model"
        )
    return model
