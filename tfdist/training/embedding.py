"""Embedding layers whose table is cut into shards by rows, one variable a shard.

Row `i` of a table with K shards is row `i // K` of shard `i % K` ("mod"). Vocabularies are mostly
sorted by frequency, so that neighbouring ids are about equally popular: cut this way every server
answers about as many requests as the others, where contiguous ranges ("div") would send nearly all
of them to the first one. Files hold the table in its plain order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist import internals
from tfdist.errors import PlugError

__all__ = [
    "MIN_BYTES",
    "ShardedEmbedding",
    "Table",
    "shard_embeddings",
    "sharded_embeddings",
    "unique_rows",
]

MIN_BYTES = 256 * 1024
"""Tables from this size on are sharded, if the user says nothing else."""

_BLOCK_BYTES = 32 * 1024 * 1024  # as much of a table as is held at once when it is loaded
_UNIQUE = "tfdist_unique_rows"


class Table:
    """The shards of one table, seen as the one variable that plain Keras has in their place.

    It holds no values: `numpy`, and whatever turns it into a tensor, brings the whole table here.

    Args:
        shards: Keras variables of shape `(rows of the shard, columns)`, in order.
        name: the name of the variable that they stand for.
    """

    def __init__(self, shards: Sequence[keras.Variable], name: str = "embeddings") -> None:
        self.shards = tuple(shards)
        self.name = name

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole table."""
        return sum(int(shard.shape[0]) for shard in self.shards), int(self.shards[0].shape[1])

    @property
    def dtype(self) -> str:
        """The type of its elements, as Keras names it."""
        return str(self.shards[0].dtype)

    def numpy(self) -> Any:
        """Returns the whole table as an array, its rows in plain order."""
        parts = [np.asarray(shard.numpy()) for shard in self.shards]
        whole = np.empty(self.shape, parts[0].dtype)
        for k, part in enumerate(parts):
            whole[k :: len(parts)] = part
        return whole

    def assign(self, value: Any) -> None:
        """Sets the whole table, block by block.

        Args:
            value: what can be sliced by rows, of the table's shape: an array, a tensor or a
                dataset of an HDF5 file, of which one block at a time is read.

        Raises:
            ValueError: it has another shape.
        """
        rows, columns = self.shape
        if tuple(value.shape) != (rows, columns):
            raise ValueError(
                f"a value of shape {tuple(value.shape)} was given for the table {self.name!r} of "
                f"shape {(rows, columns)}: they must be the same"
            )
        count = len(self.shards)
        dtype = self.shards[0].value.dtype
        step = count * max(1, _BLOCK_BYTES // (columns * dtype.size * count))
        for start in range(0, rows, step):
            block = value[start : start + step]
            for k, shard in enumerate(self.shards):
                part = tf.cast(block[k::count], dtype)
                first = start // count
                with tf.device(shard.value.device):
                    indices = tf.range(first, first + part.shape[0])
                    tf.raw_ops.ResourceScatterUpdate(
                        resource=shard.value.handle, indices=indices, updates=part
                    )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        count, (rows, _) = len(self.shards), self.shape
        whole = tf.dynamic_stitch(
            [tf.range(k, rows, count) for k in range(count)],
            [tf.convert_to_tensor(shard.value) for shard in self.shards],
            name=name,
        )
        return whole if dtype is None else tf.cast(whole, dtype)

    def __repr__(self) -> str:
        return f"<Table {self.name}, shape={self.shape}, shards={len(self.shards)}>"


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

    @property
    def table(self) -> Table:
        """The shards of the built layer, as one table."""
        return Table(self._embeddings)

    @property
    def embeddings(self) -> Table:
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
        rows = _lookup(self._embeddings, tf.convert_to_tensor(inputs), self.input_dim)
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
        for layer in _layers(model)
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
    return [layer for layer in _layers(model) if isinstance(layer, ShardedEmbedding)]


def unique_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Returns a gradient in which each row occurs once.

    The gradient of one lookup is so already. Those of a layer that is called several times are
    joined by TensorFlow; they are summed here, on the worker.

    Args:
        gradient: of a shard, in the graph where the lookup was traced, or eager.
    """
    if _is_of_one_lookup(gradient.indices):
        return gradient
    rows, where = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, where, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


# ---------------------------------------------------------------- lookup


def _lookup(shards: Sequence[keras.Variable], ids: tf.Tensor, size: int) -> tf.Tensor:
    """The rows of a table for ids; each distinct one travels once, in one message a shard."""
    count = len(shards)
    flat = _as_int32(tf.reshape(ids, [-1]))
    distinct, where = tf.unique(tf.where(flat < 0, flat + size, flat))
    if count == 1:
        found = _gather(shards[0], distinct)
    else:
        owner = tf.math.floormod(distinct, count)
        rows = tf.dynamic_partition(tf.math.floordiv(distinct, count), owner, count)
        order = tf.dynamic_partition(tf.range(tf.size(distinct)), owner, count)
        found = tf.concat([_gather(*pair) for pair in zip(shards, rows, strict=True)], axis=0)
        where = tf.gather(tf.math.invert_permutation(tf.concat(order, axis=0)), where)
    columns = int(shards[0].shape[1])
    return tf.reshape(_expand(found, where), tf.concat([tf.shape(ids), [columns]], axis=0))


def _gather(shard: keras.Variable, rows: tf.Tensor) -> tf.Tensor:
    rows = tf.identity(rows, name=_UNIQUE)
    with tf.device(shard.value.device):
        return tf.gather(shard.value, rows)


@tf.custom_gradient
def _expand(found: tf.Tensor, where: tf.Tensor) -> Any:
    """`tf.gather`, whose gradient is summed over duplicates rather than sparse."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return tf.math.unsorted_segment_sum(upstream, where, tf.shape(found)[0]), None

    return tf.gather(found, where), gradient


def _as_int32(ids: tf.Tensor) -> tf.Tensor:
    if ids.dtype in (tf.int64, tf.uint32, tf.uint64):
        # Cut off at 32 bits, an id could be in range by chance.
        return tf.saturate_cast(tf.cast(ids, tf.int64), tf.int32)
    return tf.cast(ids, tf.int32)


def _is_of_one_lookup(indices: tf.Tensor) -> bool:
    if tf.executing_eagerly():
        return False
    op = indices.op
    while op.type == "Reshape" or (op.type == "Identity" and _UNIQUE not in op.name):
        op = op.inputs[0].op
    return op.type in ("Identity", "Unique")  # `clip` has summed it before


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


def _turn(layer: Any, count: int) -> None:
    plain = layer._embeddings if layer.built else None
    layer.__class__ = ShardedEmbedding
    layer._shard_count = count
    if plain is None:
        return

    layer._embeddings = internals.remake_weight(
        layer,
        plain,
        lambda: layer.add_weight(
            name="embeddings",
            shape=plain.shape,
            initializer=_RowsOf(plain),
            trainable=plain.trainable,
        ),
    )


def _check(layer: Any) -> None:
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


def _check_count(layer: Any, shards: int | None) -> int | None:
    if shards is None:
        return None
    if (
        not isinstance(shards, int)
        or isinstance(shards, bool)
        or not 1 <= shards <= layer.input_dim
    ):
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


def _layers(model: keras.Model) -> Iterator[Any]:
    seen: set[int] = set()
    for layer in model._flatten_layers(include_self=False):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer


def _table_bytes(layer: Any) -> int:
    return int(layer.input_dim * layer.output_dim * tf.as_dtype(layer.variable_dtype).size)
