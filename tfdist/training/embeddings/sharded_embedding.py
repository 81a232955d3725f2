"""Embedding layers whose table is cut into shards by rows, one variable a shard.

Row `i` of a table with K shards is row `i // K` of shard `i % K` ("mod"). Vocabularies are mostly
sorted by frequency, so that neighbouring ids are about equally popular: cut this way every server
answers about as many requests as the others, where contiguous ranges ("div") would send nearly all
of them to the first one. Files hold the table in its plain order.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import keras_layers
from tfdist.errors import PlugError
from tfdist.given_numbers import is_count
from tfdist.training.embeddings.lookup import look_up
from tfdist.training.embeddings.sharded_variable import ShardedVariable
from tfdist.training.model_parts import unique

__all__ = ["MIN_BYTES", "ShardedEmbedding", "shard_embeddings", "sharded_embeddings"]

MIN_BYTES = 256 * 1024
"""Tables from this size on are sharded, if the user says nothing else."""


class ShardedEmbedding(keras.layers.Embedding):
    """`keras.layers.Embedding`, its table sharded over the parameter servers by rows.

    Only ids and looked-up rows travel, each distinct id of a batch once, and so do gradients. Its
    weights are K variables `embeddings_shard_k`; everything else is as in the plain layer, and a
    saved model holds the plain layer with its one weight. `embeddings` and `get_weights` bring the
    whole table here.

    The initializer is called shard by shard, so that nobody holds the whole table: with the same
    seed, the numbers differ from the plain layer's (their distribution does not). Initializers that
    cannot be called for some rows alone (orthogonal, functions, arrays) are called for the whole
    table once a shard.

    Args:
        input_dim: rows of the table.
        output_dim: columns of the table.
        *args: as for `keras.layers.Embedding`.
        shards: how many shards, at most `input_dim`; by default one a parameter server of the
            strategy in whose scope the layer is built, and one without parameter servers.
        **kwargs: as for `keras.layers.Embedding`.

    Raises:
        PlugError: `shards` is wrong, or a regularizer, a constraint, LoRA or quantization is asked
            for, which need the whole table at every step.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *args: Any,
        shards: int | None = None,
        weights: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_dim, output_dim, *args, **kwargs)
        _check(self)
        self._shard_count = _check_count(self, shards)
        if weights is not None:
            self.build()
            self.set_weights(weights if isinstance(weights, list) else [weights])

    _apart = False

    def keep_lookups_apart(self, apart: bool) -> None:
        """Whether the gradient has a row for each id of a batch, or one for each distinct id."""
        self._apart = apart

    @property
    def table(self) -> ShardedVariable:
        """The shards of the built layer, as one table."""
        return ShardedVariable(keras_layers.embeddings_of(self))

    @property
    def embeddings(self) -> ShardedVariable:
        """The whole table, which is brought here when it is used."""
        if not self.built:
            raise AttributeError("You must build the layer before accessing `embeddings`.")
        return self.table

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.layers.Layer.add_weight`; the weight `embeddings` becomes a tuple of shards."""
        if kwargs.get("name") != "embeddings":
            return super().add_weight(*args, **kwargs)
        rows, columns = kwargs.pop("shape")
        initializer = kwargs.pop("initializer")
        count = min(self._shard_count or _servers() or 1, rows)
        shards = []
        for k in range(count):
            shape = (len(range(k, rows, count)), columns)
            options = {**kwargs, "name": f"embeddings_shard_{k}", "autocast": False}
            part = _part_of(initializer, (rows, columns), shape, k, count)
            shards.append(super().add_weight(shape=shape, initializer=part, **options))
        return tuple(shards)

    def call(self, inputs: Any) -> Any:
        """Looks ids up.

        Args:
            inputs: ids of any shape and integer type; from `-input_dim` to `-1` they count from the
                end, as in the plain layer.

        Returns:
            Their rows, `inputs.shape + (output_dim,)`, in the layer's compute dtype.

        Raises:
            tf.errors.InvalidArgumentError: (when it runs, on a CPU) an id is out of range.
        """
        if isinstance(inputs, tf.RaggedTensor):
            return inputs.with_flat_values(self.call(inputs.flat_values))
        if isinstance(inputs, tf.SparseTensor):
            inputs = tf.sparse.to_dense(inputs)
        ids = tf.convert_to_tensor(inputs)
        rows = look_up(keras_layers.embeddings_of(self), ids, self.input_dim, self._apart)
        return tf.cast(rows, self.compute_dtype)

    def get_weights(self) -> list[Any]:
        """Returns the whole table as the one array of a list, as the plain layer does."""
        return [self.table.numpy()] if self.built else []

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the table, given whole or as one array a shard."""
        if self.built and len(weights) == 1:
            self.table.assign(np.asarray(weights[0]))
        else:
            super().set_weights(weights)

    def save_own_variables(self, store: Any) -> None:
        """Writes the one weight of the plain layer."""
        if self.built:
            store["0"] = self.table.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Reads the one weight of a plain layer."""
        keys = list(store.keys())
        if keys != ["0"] or not self.built:
            raise ValueError(
                f"the layer {self.name!r} (built: {self.built}) expects one table, but the file "
                f"has {len(keys)} variables for it"
            )
        self.table.assign(store["0"])


# In files the layer is the plain one: Keras writes a class by its name and module.
ShardedEmbedding.__name__ = keras.layers.Embedding.__name__
ShardedEmbedding.__module__ = "keras.layers"


def shard_embeddings(
    model: keras.Model,
    num_servers: int,
    min_bytes: int = MIN_BYTES,
    shards: int | None = None,
) -> list[ShardedEmbedding]:
    """Turns the large embedding layers of a model into sharded ones, in place.

    The layers stay the same objects, so that a functional model's graph stays intact. A table with
    values is copied from server to server.

    Args:
        model: a model whose optimizer is not built yet; its own layers and those of nested models
            are turned, built or not.
        num_servers: how many parameter servers there are.
        min_bytes: smaller tables stay as they are.
        shards: how many shards a table gets; by default `num_servers`.

    Returns:
        All sharded layers of the model, those that were sharded before too.

    Raises:
        PlugError: the optimizer is built already, or a large layer cannot be sharded.
    """
    large = [
        layer
        for layer in unique(keras_layers.all_layers(model))
        if type(layer) is keras.layers.Embedding and _table_bytes(layer) >= min_bytes
    ]
    if large and getattr(getattr(model, "optimizer", None), "built", False):
        raise PlugError(
            f"the embedding layer {large[0].name!r} is to be sharded over the parameter servers, "
            "but the optimizer has its slots for the plain table already: plug the model before "
            "its first fit; to go on from a file, load it with compile=False, compile, plug, and "
            "call model.optimizer.build(model.trainable_variables) and model.load_weights(path)"
        )
    for layer in large:
        _check(layer)
        _check_count(layer, shards)
    with model.distribute_strategy.scope():
        for layer in large:
            _turn(layer, shards or num_servers)
    return sharded_embeddings(model)


def sharded_embeddings(model: keras.Model) -> list[ShardedEmbedding]:
    """Returns the sharded layers of a model and its nested models, each once."""
    return [
        layer
        for layer in unique(keras_layers.all_layers(model))
        if isinstance(layer, ShardedEmbedding)
    ]


# ---------------------------------------------------------------- making and turning


def _part_of(
    initializer: Any, whole: tuple[int, int], shape: tuple[int, int], k: int, count: int
) -> Any:
    """An initializer for shard `k`, as if it drew those rows of the whole table."""
    kinds = keras.initializers
    if isinstance(initializer, _RowsOf):
        return initializer.part(k, count)
    if isinstance(initializer, kinds.Zeros | kinds.Ones):
        return initializer
    if isinstance(initializer, kinds.Constant) and np.ndim(initializer.value) == 0:
        return initializer
    drawn = (kinds.RandomUniform, kinds.RandomNormal, kinds.TruncatedNormal)
    if not isinstance(initializer, (*drawn, kinds.VarianceScaling)):

        def slice_of_whole(_: Any, dtype: Any = None) -> Any:
            return tf.convert_to_tensor(initializer(whole, dtype=dtype))[k::count]

        return slice_of_whole
    part = copy.copy(initializer)
    if isinstance(part.seed, int):  # the same seed would draw the same rows for every shard
        part.seed = int(np.random.SeedSequence([abs(part.seed), k]).generate_state(1)[0] >> 1)
    if isinstance(part, kinds.VarianceScaling):
        rows = {"fan_in": 1.0, "fan_out": 0.0, "fan_avg": 0.5}[part.mode]
        fan, fan_whole = (max(1.0, rows * s[0] + (1 - rows) * s[1]) for s in (shape, whole))
        part.scale *= fan / fan_whole
    return part


class _RowsOf(keras.initializers.Initializer):
    """The rows of a plain layer's table, sliced where it is: only a shard's rows travel to it."""

    def __init__(self, plain: keras.Variable) -> None:
        self._plain = plain

    def part(self, k: int, count: int) -> Any:
        def rows(_: Any, dtype: Any = None) -> tf.Tensor:
            with tf.device(self._plain.value.device):
                return tf.cast(self._plain.value[k::count], dtype)

        return rows


def _turn(layer: keras.layers.Layer, count: int) -> None:
    plain = keras_layers.embeddings_of(layer) if layer.built else None
    layer.__class__ = ShardedEmbedding
    layer._shard_count = count
    if plain is None:
        return

    shards = keras_layers.remake_weight(
        layer,
        plain,
        lambda trained: layer.add_weight(
            name="embeddings",
            shape=plain.shape,
            initializer=_RowsOf(plain),
            trainable=trained,
        ),
    )
    keras_layers.set_embeddings(layer, shards)


def _check(layer: keras.layers.Layer) -> None:
    """Refuses what would need the whole table at every step."""
    asked = {
        "embeddings_regularizer": layer.embeddings_regularizer,
        "embeddings_constraint": layer.embeddings_constraint,
        "lora_rank": layer.lora_rank or layer.lora_enabled,
        "quantization": layer.quantization_mode,
    }
    for name, value in asked.items():
        if value:
            raise PlugError(
                f"the embedding layer {layer.name!r} has {name}, which needs its whole table at "
                f"every step and cannot be sharded: leave {name} away, or keep the table whole by "
                "a larger size threshold"
            )


def _check_count(layer: keras.layers.Layer, shards: int | None) -> int | None:
    if shards is None:
        return None
    if not is_count(shards) or shards > layer.input_dim:
        raise PlugError(
            f"shards={shards!r} was given for the embedding layer {layer.name!r} of "
            f"{layer.input_dim} rows: give an integer from 1 to {layer.input_dim}, or None"
        )
    return shards


def _servers() -> int:
    """How many parameter servers the current strategy has."""
    if not isinstance(tf.distribute.get_strategy(), tf.distribute.ParameterServerStrategy):
        return 0
    devices = [tf.DeviceSpec.from_string(d.name) for d in tf.config.list_logical_devices("CPU")]
    return len({device.task for device in devices if device.job == "ps"})


def _table_bytes(layer: keras.layers.Layer) -> int:
    return int(layer.input_dim * layer.output_dim * tf.as_dtype(layer.variable_dtype).size)
