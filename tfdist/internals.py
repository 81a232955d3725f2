"""The one place where tfdist reaches into the private parts of Keras and TensorFlow.

Everything else in tfdist uses public API. Which names these are, and where, says
`tfdist.compat.names`; here is what is done with them, of two kinds:

*Borrowed parts*: Keras' data adapters and its symbolic build, called as Keras calls them, so that
every input that `keras.Model.fit` accepts is accepted here with Keras' own messages.

*Points of replacement* (`POINTS`, `replaced`): the handful of Keras functions that
`tfdist.training.replica` and `tfdist.training.worker_step` exchange while a step is being
traced, and only then.

`check_versions` verifies when this module is imported that what is touched here looks as it did
when it was written, before anything uses it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import names, versions
from tfdist.compat.names import (
    keras_array_slicing,
    keras_backend,
    keras_data_adapters,
    keras_data_utils,
    keras_functional,
    keras_loss,
    keras_masking,
    keras_optimizer,
    keras_reduction,
    keras_tf_optimizer,
    keras_variables,
    tf_batch,
    tf_context,
    tf_control,
    tf_counted,
    tf_dataset,
    tf_distribute,
    tf_func_graphs,
    tf_function,
    tf_map,
    tf_ops,
    tf_prefetch,
    tf_repeat,
    tf_seeds,
    tf_session,
    tf_stateless,
    tf_structure,
    tf_values,
)
from tfdist.errors import PlugError

__all__ = [
    "POINTS",
    "all_layers",
    "arrays_of",
    "batch_statistics",
    "begin_with_epoch",
    "call_node",
    "captured",
    "check_versions",
    "class_weight_to_sample_weights",
    "compute_loss",
    "constant_value",
    "data_adapter",
    "excludes_unknown_variables",
    "flat_losses",
    "functional_inputs",
    "functional_nodes",
    "functions_inline",
    "gather_rows",
    "gather_small_sums",
    "handles_of",
    "held",
    "in_order",
    "is_absent",
    "is_built",
    "is_in_a_loop",
    "is_on_read",
    "is_symbolic",
    "keras_predict",
    "keras_writer",
    "leaf_layers",
    "logits_of",
    "loss_tracker",
    "maps_before_batch",
    "mask_of",
    "move_variable",
    "number_of_rows",
    "out_of_scope",
    "overrides",
    "post",
    "posted",
    "read_as_one_number",
    "remake_weight",
    "replaced",
    "restored_epoch",
    "save",
    "seed_if_unseeded",
    "separate_collectives",
    "set_mask",
    "smallest_batch",
    "spec_of_remote",
    "split_validation",
    "squeeze_or_expand_to_same_rank",
    "symbolic_build",
    "try_step",
    "unordered_stamps",
    "unpack",
    "varies_with",
    "without_merge_call",
]

unpack = names.of(keras_data_utils, "unpack_x_y_sample_weight")
class_weight_to_sample_weights = names.of(keras_data_utils, "class_weight_to_sample_weights")
squeeze_or_expand_to_same_rank = names.of(keras_loss, "squeeze_or_expand_to_same_rank")
keras_predict = super(keras.Model, keras.Model).predict  # also where `keras.Model` has another one
_WRITERS = {name: getattr(keras.Model, name) for name in ("save", "save_weights", "export")}

_lock = threading.RLock()


# ---------------------------------------------------------------- borrowed parts


def data_adapter(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    shuffle: Any = False,
    class_weight: Any = None,
) -> Any:
    """Returns Keras' own data adapter for these arguments of `fit`, `evaluate` or `predict`."""
    if isinstance(x, tf.data.Dataset | types.GeneratorType):
        shuffle = False  # it means nothing there, and Keras would warn of its own default
    return keras_data_adapters.get_data_adapter(
        x=x,
        y=y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        shuffle=shuffle,
        class_weight=class_weight,
    )


def smallest_batch(adapter: Any) -> int | None:
    """Rows of the smallest batch that a data adapter gives, or None where it cannot tell."""
    try:
        partial, size = adapter.partial_batch_size, adapter.batch_size
        return None if adapter.has_partial_batch is None else int(partial or size)
    except NotImplementedError:
        return None


def split_validation(x: Any, y: Any, sample_weight: Any, fraction: float) -> Any:
    """Splits arrays as `fit(validation_split=...)` does: the last `fraction` is held out."""
    return keras_array_slicing.train_validation_split(
        (x, y, sample_weight), validation_split=fraction
    )


def symbolic_build(model: keras.Model, batch: Any) -> None:
    """Creates all variables of the model, its metrics and its optimizer before anything is traced.

    Args:
        model: a compiled model.
        batch: tensors or specs of one batch, as `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
    """
    with functions_inline():
        model._symbolic_build(data_batch=batch)


def try_step(step: Callable[[Any], Any], batch: Any, strategy: tf.distribute.Strategy) -> None:
    """Calls a step on tensors without values; nothing is changed but what is not built yet.

    Args:
        step: a model's `train_step`, `test_step` or `predict_step`.
        batch: tensors or specs of one batch, as the step takes them.
        strategy: in whose scope the variables are made that the step needs.
    """
    gradient = tf.GradientTape.gradient

    def without_variables(self: Any, target: Any, sources: Any, *args: Any, **named: Any) -> Any:
        # A variable that is to be made has no tensor to ask for yet; any gradient has its shape.
        if any(isinstance(source, keras.Variable) for source in tf.nest.flatten(sources)):
            return tf.nest.map_structure(lambda v: tf.zeros(v.shape, v.dtype), sources)
        return gradient(self, target, sources, *args, **named)

    def call() -> None:
        step(tf.nest.map_structure(_placeholder, batch))

    with _lock:
        tf.GradientTape.gradient = without_variables
        try:
            with keras.StatelessScope(initialize_variables=False), functions_inline():
                keras_backend.compute_output_spec(call)
        finally:
            tf.GradientTape.gradient = gradient
            with strategy.scope():
                keras_variables.initialize_all_variables()


def is_absent(leaf: Any) -> bool:
    """Whether an entry of a batch, or of its specs, stands for None."""
    return leaf is None or isinstance(
        leaf, tf.experimental.Optional | tf.OptionalSpec | tf_structure.NoneTensorSpec
    )


def _placeholder(leaf: Any) -> Any:
    if is_absent(leaf):
        return None
    if isinstance(leaf, tf.RaggedTensor | tf.RaggedTensorSpec):
        shape = leaf.shape[leaf.ragged_rank + 1 :]
        return tf.compat.v1.ragged.placeholder(leaf.dtype, leaf.ragged_rank, shape)
    if isinstance(leaf, tf.SparseTensor | tf.SparseTensorSpec):
        return tf.compat.v1.sparse_placeholder(leaf.dtype, leaf.shape)
    return tf.compat.v1.placeholder(leaf.dtype, leaf.shape)


@contextlib.contextmanager
def functions_inline() -> Iterator[None]:
    """Has every `tf.function` that is called in the block be a part of its caller.

    Those that XLA compiles stay what they are, once all variables are there. One that is traced
    while variables are still to be made would keep their initial values as constants, and be used
    again for the steps; and what it returns would be other tensors than its metrics' results.
    """
    global _inline
    with _lock:
        _inline += 1
        tf_function.Function.__call__ = _call_inline
    try:
        yield
    finally:
        with _lock:
            _inline -= 1
            if _inline == 0:
                tf_function.Function.__call__ = _call_function


_inline = 0
_call_function = tf_function.Function.__call__


def _call_inline(self: Any, *args: Any, **named: Any) -> Any:
    if self._jit_compile and not keras_backend.in_stateless_scope():
        return _call_function(self, *args, **named)
    python = self.python_function
    if self._autograph:
        autograph = tf.__internal__.autograph
        python = autograph.tf_convert(python, autograph.control_status_ctx())
    return python(*args, **named)


def overrides(model: keras.Model, name: str) -> bool:
    """Whether a model has a method of its own where `keras.Model` has one of that name."""
    method = getattr(model, name)
    if name == "call" and not hasattr(method, "__func__"):
        return True
    return getattr(method, "__func__", method) is not getattr(keras.Model, name)


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the model itself and all layers in it, at every depth."""
    return list(model._flatten_layers())


def flat_losses(model: keras.Model) -> list[Any]:
    """Returns the `keras.losses.Loss` objects that `compile` was given (after the build)."""
    compile_loss = getattr(model, "_compile_loss", None)
    entries = getattr(compile_loss, "_flat_losses", None) or []
    return [entry[1] for entry in entries if entry[1] is not None]


def leaf_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a model that hold no others, in their order."""
    return [layer for layer in all_layers(model) if not layer._layers]


def in_order(model: keras.Model, logs: dict[str, Any]) -> Any:
    """Returns the values of `logs` as `evaluate` and `train_on_batch` return them."""
    return model._flatten_metrics_in_order(logs)


def is_built(model: keras.Model) -> bool:
    """Whether the model and all of its layers have their variables."""
    return all(layer.built for layer in all_layers(model))


def restored_epoch(model: keras.Model) -> int | None:
    """Takes the epoch that a callback has set to begin with (`BackupAndRestore` does), if any."""
    epoch, model._initial_epoch = getattr(model, "_initial_epoch", None), None
    return epoch


def begin_with_epoch(model: keras.Model, epoch: int) -> None:
    """Has the `fit` that is beginning start with this epoch (counted from 0)."""
    model._initial_epoch = epoch


def keras_writer(model: keras.Model, name: str) -> Callable[..., None]:
    """Returns Keras' own `save`, `save_weights` or `export`, whatever the plugged model's does."""
    return functools.partial(_WRITERS[name], model)


def save(model: keras.Model, path: str) -> None:
    """Saves with Keras' own method, whatever the plugged model's does beside."""
    keras_writer(model, "save")(path)


def seed_if_unseeded(seed: int) -> None:
    """Sets TensorFlow's global seed, unless the program has set one."""
    if tf_context.global_seed() is None:
        tf.random.set_seed(seed)


_strategies_seen = 0
_GROUPS_PER_STRATEGY = 1000


def separate_collectives(strategy: tf.distribute.Strategy) -> None:
    """Keeps the collectives of two strategies of one process apart.

    Every MirroredStrategy calls its group of devices by the same number; a second one in the
    process (a notebook's cell run again, with more devices) would join the first one's group and
    abort all collectives of the process. It must be done before a step is traced.
    """
    global _strategies_seen
    extended = strategy.extended
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or not hasattr(
        extended, "_make_collective_ops_with_fallbacks"
    ):
        return
    with _lock:
        if getattr(extended, "_tfdist_separated", False):
            return
        extended._tfdist_separated = True
        _strategies_seen += 1
        extended._collective_key_base = _GROUPS_PER_STRATEGY * _strategies_seen
    before = extended._collective_ops
    extended._collective_ops = extended._make_collective_ops_with_fallbacks()
    if extended._cross_device_ops is before:
        extended._cross_device_ops = extended._collective_ops


def gather_small_sums(
    strategy: tf.distribute.Strategy, is_gathered: Callable[[int, int], bool]
) -> None:
    """Has the CPUs of a multi-worker strategy sum some tensors by a gather.

    Everybody adds up the same in the same order, so all get the same bits.

    Args:
        strategy: a fresh one.
        is_gathered: tells by the number of replicas and the bytes of a tensor.
    """
    for launcher in strategy.extended._cross_device_ops._launchers:
        if "CPU" in launcher._device:
            launcher.__class__ = _gathering(launcher.__class__)
            launcher.is_gathered = is_gathered


_GATHERED_TYPES = (tf.float16, tf.float32, tf.float64, tf.int32, tf.int64, tf.bfloat16)
"""Those that TensorFlow can gather, and bfloat16, of which two travel as one int32."""


@functools.cache
def _gathering(base: Any) -> Any:
    class Gathering(base):
        """What starts the collectives of one replica."""

        is_gathered: Callable[[int, int], bool]

        def all_reduce(
            self, input_tensor: Any, control_input: Any = None, options: Any = None
        ) -> Any:
            tensor = tf.convert_to_tensor(input_tensor)
            count = tensor.shape.num_elements()
            if (
                count is None
                or tensor.dtype not in _GATHERED_TYPES
                or not self.is_gathered(self._group_size, count * tensor.dtype.size)
            ):
                return super().all_reduce(tensor, control_input, options)
            with tf.device(self._device):
                if tensor.dtype == tf.bfloat16:
                    gathered = self._all_gather(tf.expand_dims(_in_pairs(tensor), 0), options)
                    halves = tf.reshape(tf.bitcast(gathered, tensor.dtype), [self._group_size, -1])
                    total = tf.reduce_sum(tf.cast(halves[:, :count], tf.float32), 0)
                    return tf.reshape(tf.cast(total, tensor.dtype), tensor.shape)
                gathered = self._all_gather(tf.expand_dims(tensor, 0), options)
                return tf.add_n(tf.unstack(gathered, num=self._group_size))

    return Gathering


def _in_pairs(tensor: tf.Tensor) -> tf.Tensor:
    """A tensor of two-byte numbers as one of int32, flat; an odd one gets a zero at its end."""
    flat = tf.reshape(tensor, [-1])
    if flat.shape[0] % 2:
        flat = tf.pad(flat, [[0, 1]])
    return tf.bitcast(tf.reshape(flat, [-1, 2]), tf.int32)


def excludes_unknown_variables(optimizer: Any) -> bool:
    """Whether `exclude_from_weight_decay` named a variable that the built optimizer has not."""
    excluded: set[str] = getattr(optimizer, "_exclude_from_weight_decay", set())
    return bool(excluded - {optimizer._var_key(v) for v in optimizer._trainable_variables})


@contextlib.contextmanager
def without_merge_call(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Asks a strategy for its mode without `merge_call` while a step is traced.

    Every replica then updates its own copy of a variable by itself: only so may an update stand in
    a condition, as gradient accumulation and loss scaling need. (TensorFlow itself chooses this
    mode for XLA on GPUs.)
    """
    extended = strategy.extended
    before = extended.__dict__.get("_use_merge_call")
    extended._use_merge_call = lambda: False
    try:
        yield
    finally:
        if before is None:
            del extended._use_merge_call
        else:
            extended._use_merge_call = before


def is_symbolic(tensor: tf.Tensor) -> bool:
    """Whether a tensor is an operation's output in a graph, and not a value."""
    return not isinstance(tensor, _eager_tensor)


def constant_value(tensor: tf.Tensor) -> Any:
    """Returns the value that a tensor of a graph always has, as an array; None if it has none."""
    value = tf.get_static_value(tensor)
    if value is None and is_symbolic(tensor):
        with tensor.graph._c_graph.get() as graph:
            value = tf_session.TF_TryEvaluateConstant_wrapper(graph, tensor._as_tf_output())
    return None if value is None else np.asarray(value)


def captured(placeholder: tf.Tensor) -> Any:
    """Returns what a placeholder stands for in the graph around its own; None for an argument."""
    for outer, inner in placeholder.graph.captures:
        if inner is placeholder:
            return outer
    return None


def is_in_a_loop(graph: Any) -> bool:
    """Whether the graph that is being written is a TensorFlow loop's body inside of `graph`."""
    now = tf.compat.v1.get_default_graph()
    while now is not None and now is not graph:
        if isinstance(now, tf_func_graphs.WhileBodyFuncGraph):
            return True
        now = getattr(now, "outer_graph", None)
    return False


def handles_of(variable: tf.Variable) -> list[Any]:
    """Returns the resource handles of a variable's copies in this process."""
    copies = variable.values if isinstance(variable, tf_values.DistributedVariable) else [variable]
    return [copy.handle for copy in copies]


def is_on_read(variable: tf.Variable) -> bool:
    """Whether each replica has a variable for itself until somebody reads it."""
    return bool(variable.synchronization == tf.VariableSynchronization.ON_READ)


@contextlib.contextmanager
def out_of_scope() -> Iterator[None]:
    """Leaves the scopes of all strategies: variables made in the block are this process's own.

    In the scope of a strategy of several processes, making a variable is a collective.
    """
    if not tf.distribute.has_strategy():
        yield
        return
    graph = tf_ops.get_default_graph()
    creators, graph._variable_creator_stack = graph._variable_creator_stack, []
    tf_distribute._push_per_thread_mode(tf_distribute._get_default_replica_mode())
    try:
        yield
    finally:
        tf_distribute._pop_per_thread_mode()
        graph._variable_creator_stack = creators


def post(key: str, text: str) -> None:
    """Leaves word for the other processes of a multi-worker job; nothing if that cannot be."""
    with contextlib.suppress(tf.errors.OpError, RuntimeError):
        tf_context.context().set_config_key_value(key, text)


def posted(key: str, milliseconds: int) -> str | None:
    """Returns what a process of the job has posted, None if that does not come in time."""
    try:
        return str(tf_context.context().get_config_key_value(key, milliseconds))
    except (tf.errors.OpError, RuntimeError):
        return None


def read_as_one_number() -> None:
    """Has `int`, `float` and `np.array` read a variable of several replicas as any other.

    TensorFlow gives its class for these no such methods, or one that NumPy refuses. They stay: what
    they replace could only raise.
    """
    kind = tf_values.DistributedVariable
    if "__int__" in vars(kind):
        return

    def array(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # it is one
        return np.array(self.numpy(), dtype)

    kind.__int__ = lambda self: int(self.numpy())
    kind.__float__ = lambda self: float(self.numpy())
    kind.__complex__ = lambda self: complex(self.numpy())
    kind.__array__ = array


class Held:
    """Keras variables that are plain tensors while a step is traced; see `held`."""

    def __init__(self, values: Sequence[tuple[keras.Variable, tf.Tensor]]) -> None:
        self._true = {id(variable): variable._value for variable, _ in values}
        self._variables = [variable for variable, _ in values]
        for variable, tensor in values:
            variable._value = tensor

    def has(self, variable: keras.Variable) -> bool:
        """Whether the variable is a tensor now."""
        return id(variable) in self._true and isinstance(variable._value, tf.Tensor)

    def current(self, variable: keras.Variable) -> tf.Tensor:
        """The tensor that stands for a variable, after all assignments so far."""
        return variable._value

    def hold(self, variable: keras.Variable, tensor: tf.Tensor) -> None:
        """Has another tensor stand for one of the variables."""
        variable._value = tensor

    def release(self, variable: keras.Variable) -> None:
        """Lets a variable be itself again."""
        if id(variable) in self._true:
            variable._value = self._true[id(variable)]

    def release_all(self) -> None:
        """Lets all variables be themselves again."""
        for variable in self._variables:
            self.release(variable)

    @property
    def to_watch(self) -> list[tf.Tensor]:
        """The tensors of the trainable variables."""
        return [v._value for v in self._variables if v.trainable and self.has(v)]


@contextlib.contextmanager
def held(values: Sequence[tuple[keras.Variable, tf.Tensor]]) -> Iterator[Held]:
    """Has Keras variables be plain tensors while a step is traced.

    Reading one gives its tensor; assigning to it replaces the tensor; a `tf.GradientTape` that is
    opened meanwhile watches those of the trainable ones, and gives gradients for them.

    Args:
        values: variables and the tensors that stand for them.
    """
    variable_class, tape_class = keras.Variable, tf.GradientTape
    before = (variable_class._direct_assign, variable_class.handle, tape_class.__enter__)
    here = Held(values)

    def direct_assign(self: Any, value: Any) -> None:
        if here.has(self):
            here.hold(self, tf.ensure_shape(tf.cast(value, self._value.dtype), self._value.shape))
        else:
            before[0](self, value)

    def handle(self: Any) -> Any:
        return self._value if here.has(self) else before[1].fget(self)

    def enter(self: Any) -> Any:
        tape = before[2](self)
        for tensor in here.to_watch:
            tape.watch(tensor)
        return tape

    with _lock:
        variable_class._direct_assign = direct_assign
        variable_class.handle = property(handle)
        tape_class.__enter__ = enter
        try:
            yield here
        finally:
            here.release_all()
            variable_class._direct_assign, variable_class.handle, tape_class.__enter__ = before


def spec_of_remote(value: Any) -> Any:
    """Returns the type of what a per-worker value is on each worker, to trace a function for it."""
    return value._type_spec


# ---------------------------------------------------------------- points of replacement


@dataclasses.dataclass(frozen=True)
class Point:
    """A function of Keras or TensorFlow that can be replaced for a while.

    Attributes:
        owner: the module or class that has it.
        name: its name there.
        parameters: the names of its parameters when tfdist was written.
        original: the function itself.
    """

    owner: Any
    name: str
    parameters: tuple[str, ...]
    original: Callable[..., Any] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "original", getattr(self.owner, self.name, None))

    def moved(self) -> list[str]:
        """Returns in what the function is another one than tfdist was written for."""
        if self.owner is None:
            return []  # that it is missing is told by `tfdist.compat.names`
        name = f"{self.owner.__name__}.{self.name}"
        return names.moved_parameters(name, self.original, self.parameters)


_eager_tensor = names.of(tf_ops, "EagerTensor")
_base_optimizer = names.of(keras_optimizer, "BaseOptimizer")
_tf_optimizer = names.of(keras_tf_optimizer, "TFOptimizer")
_keras_variable = names.of(keras_variables, "Variable")
_distributed_variable = names.of(tf_values, "DistributedVariable")

_COUNTED = ("shape", "key", "counter", "alg")
"""Of an operation that draws random numbers by their places."""

POINTS: Mapping[str, Point] = {
    "scale_loss": Point(keras_loss, "scale_loss_for_distribution", ("value",)),
    "unscale_loss": Point(keras_loss, "unscale_loss_for_distribution", ("value",)),
    "reduce_values": Point(keras_loss, "reduce_values", ("values", "sample_weight", "reduction")),
    "apply_mask": Point(keras_loss, "apply_mask", ("sample_weight", "mask", "dtype", "reduction")),
    "samplewise_values": Point(
        keras_reduction,
        "reduce_to_samplewise_values",
        ("values", "sample_weight", "reduce_fn", "dtype"),
    ),
    "average_loss": Point(
        tf.nn, "compute_average_loss", ("per_example_loss", "sample_weight", "global_batch_size")
    ),
    "regularization_loss": Point(tf.nn, "scale_regularization_loss", ("regularization_loss",)),
    "all_reduce": Point(
        tf.distribute.ReplicaContext, "all_reduce", ("self", "reduce_op", "value", "options")
    ),
    "all_gather": Point(
        tf.distribute.ReplicaContext, "all_gather", ("self", "value", "axis", "options")
    ),
    "tape_gradient": Point(
        tf.GradientTape,
        "gradient",
        ("self", "target", "sources", "output_gradients", "unconnected_gradients"),
    ),
    "assign": Point(keras.Variable, "_direct_assign", ("self", "value")),
    "assign_add": Point(_keras_variable, "assign_add", ("self", "value")),
    "assign_sub": Point(_keras_variable, "assign_sub", ("self", "value")),
    **{
        f"mirrored_{name}": Point(
            _distributed_variable,
            name,
            ("self", "value", "use_locking", "name", "read_value"),
        )
        for name in ("assign", "assign_add", "assign_sub")
    },
    "uniform": Point(tf_counted, "stateless_random_uniform_v2", (*_COUNTED, "dtype", "name")),
    "uniform_int": Point(
        tf_counted, "stateless_random_uniform_int_v2", (*_COUNTED, "minval", "maxval", "name")
    ),
    "uniform_full_int": Point(
        tf_counted, "stateless_random_uniform_full_int_v2", (*_COUNTED, "dtype", "name")
    ),
    "normal": Point(tf_counted, "stateless_random_normal_v2", (*_COUNTED, "dtype", "name")),
    "truncated_normal": Point(
        tf_counted, "stateless_truncated_normal_v2", (*_COUNTED, "dtype", "name")
    ),
    "gamma": Point(tf_counted, "stateless_random_gamma_v3", (*_COUNTED, "alpha", "name")),
    "categorical": Point(
        tf_stateless,
        "stateless_multinomial",
        ("logits", "num_samples", "seed", "output_dtype", "name"),
    ),
    "binomial": Point(
        tf_stateless,
        "stateless_random_binomial",
        ("shape", "seed", "counts", "probs", "dtype", "name"),
    ),
    "poisson": Point(
        tf_stateless, "stateless_random_poisson", ("shape", "seed", "lam", "dtype", "name")
    ),
    "get_seed": Point(tf_seeds, "get_seed", ("op_seed",)),
    "apply": Point(_base_optimizer, "apply", ("self", "grads", "trainable_variables")),
    "scaled_apply": Point(
        keras.optimizers.LossScaleOptimizer, "apply", ("self", "grads", "trainable_variables")
    ),
    "reduce_gradients": Point(
        _tf_optimizer, "_all_reduce_sum_gradients", ("self", "grads_and_vars")
    ),
    "update_step": Point(
        _tf_optimizer,
        "_backend_update_step",
        ("self", "grads", "trainable_variables", "learning_rate"),
    ),
    "clip": Point(_base_optimizer, "_clip_gradients", ("self", "grads")),
    "weight_decay": Point(_tf_optimizer, "_apply_weight_decay", ("self", "variables")),
}
"""What `training` replaces while a step is traced."""


def original(name: str) -> Callable[..., Any]:
    """Returns the function itself that is, or may be, replaced at one of the `POINTS`."""
    return POINTS[name].original


_installed = 0


@contextlib.contextmanager
def replaced(replacements: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Puts replacements in place of the functions in `POINTS`, and takes them back at the end.

    Nested calls give the same replacements; the last one to leave takes them back.
    """
    global _installed
    with _lock:
        _installed += 1
        if _installed == 1:
            for name, function in replacements.items():
                setattr(POINTS[name].owner, POINTS[name].name, function)
    try:
        yield
    finally:
        with _lock:
            _installed -= 1
            if _installed == 0:
                for name in replacements:
                    setattr(POINTS[name].owner, POINTS[name].name, POINTS[name].original)


def check_versions() -> None:
    """Checks that the installed Keras is one that the replacements fit.

    Raises:
        PlugError: Keras runs on another backend, is of a version that nobody has tested, or has
            moved a name that tfdist uses or changed the parameters of a function it replaces.
    """
    if keras.backend.backend() != "tensorflow":
        raise PlugError(
            f"Keras runs on the backend {keras.backend.backend()!r}; tfdist trains on TensorFlow: "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    moved = [*names.moved(), *itertools.chain(*(point.moved() for point in POINTS.values()))]
    reason = versions.refusal(keras.__version__, moved)
    if reason is not None:
        raise PlugError(reason)


check_versions()


# ---------------------------------------------------------------- arrays, row by row


def arrays_of(adapter: Any) -> Any | None:
    """Returns the tensors that Keras' adapter of arrays batches, weights too; None for others."""
    if not isinstance(adapter, keras_data_adapters.ArrayDataAdapter):
        return None
    tensors = keras_array_slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow")
    return keras.tree.lists_to_tuples(tensors)


def number_of_rows(adapter: Any) -> int:
    """Returns how many rows the arrays of Keras' adapter of arrays have."""
    return int(adapter._num_samples)


def gather_rows(arrays: Any, numbers: tf.Tensor) -> Any:
    """Gathers the rows of these numbers from `arrays_of`'s tensors, as Keras makes a batch."""

    def one(array: Any) -> Any:
        if isinstance(array, keras_array_slicing.TensorflowSparseWrapper):
            return keras_array_slicing.slice_tensorflow_sparse_wrapper(array, numbers)
        if isinstance(array, list | tuple | dict):
            return None  # go on inside
        return tf.gather(array, numbers, axis=0) if tf.is_tensor(array) else array

    return keras.tree.traverse(one, arrays)


# ---------------------------------------------------------------- weights of built layers


# ---------------------------------------------------------------- the makings of a dataset


@dataclasses.dataclass(frozen=True)
class DatasetMap:
    """A map of a dataset that keeps no state.

    Attributes:
        function: from an element to an element, to be called in a graph.
        parallel: whether it runs for several elements at a time.
    """

    function: Callable[[Any], Any]
    parallel: bool


@dataclasses.dataclass(frozen=True)
class MappedBatches:
    """A dataset as `base.map(...).map(...).batch(size).repeat(...)`.

    Attributes:
        base: what is mapped.
        maps: in their order.
        size: rows of a batch.
        drop_remainder: as of `batch`.
        repeats: how often all is repeated, one number a `repeat`, -1 without end.
    """

    base: tf.data.Dataset
    maps: tuple[DatasetMap, ...]
    size: int
    drop_remainder: bool
    repeats: tuple[int, ...]


def maps_before_batch(dataset: tf.data.Dataset) -> MappedBatches | None:
    """Takes a dataset apart whose batches hold mapped elements; None if it is not of that kind."""
    if dataset.options().deterministic is False:
        return None
    repeats = []
    around = (tf_prefetch._PrefetchDataset, tf_dataset._OptionsDataset, tf_repeat._RepeatDataset)
    while isinstance(dataset, around):
        if isinstance(dataset, tf_repeat._RepeatDataset):
            repeats.append(tf.get_static_value(dataset._count))
        dataset = dataset._input_dataset
    if not isinstance(dataset, tf_batch._BatchDataset | tf_batch._ParallelBatchDataset):
        return None
    size = tf.get_static_value(dataset._batch_size)
    drop_remainder = tf.get_static_value(dataset._drop_remainder)
    base, maps = dataset._input_dataset, []
    mapped = (tf_map._MapDataset, tf_map._ParallelMapDataset)
    while isinstance(base, mapped) and not _keeps_state(base._map_func.function):
        if getattr(base, "_deterministic", "default") == "false":
            return None
        maps.append(DatasetMap(_map_of(base), isinstance(base, tf_map._ParallelMapDataset)))
        base = base._input_dataset
    if not maps or any(value is None for value in (size, drop_remainder, *repeats)):
        return None
    return MappedBatches(
        base, tuple(maps[::-1]), int(size), bool(drop_remainder), tuple(map(int, repeats[::-1]))
    )


_READERS = ("Assert", "LookupTableFindV2", "LookupTableSizeV2", "ReadVariableOp", "ResourceGather")
"""What TensorFlow calls stateful though it leaves everything as it is."""


def _keeps_state(function: Any) -> bool:
    operations = function.graph.get_operations()
    return any(op.op_def.is_stateful and op.type not in _READERS for op in operations)


_RANDOM = ("Random", "TruncatedNormal", "Multinomial", "Stateful", "Rng", "Assign")
"""How the names of operations begin that draw random numbers, Keras' own by a seed's variable."""

_PYTHON = ("PyFunc", "EagerPyFunc", "PyFuncStateless")


def varies_with(dataset: Any) -> set[str]:
    """Says what may make two runs of a dataset differ, though they begin with the same seeds.

    Returns:
        Of "order" (asked for with deterministic=False), "random" (numbers drawn in calls that run
        side by side) and "python" (the user's own code) those that were found.
    """
    found = {"order"} if dataset.options().deterministic is False else set()
    if getattr(dataset, "_deterministic", "default") == "false":
        found.add("order")
    function = getattr(getattr(dataset, "_map_func", None), "function", None)
    if function is not None:
        graph = function.graph.as_graph_def()
        nodes = [graph.node, *(one.node_def for one in graph.library.function)]
        kinds = {node.op for some in nodes for node in some}
        parallel = hasattr(dataset, "_num_parallel_calls")
        if parallel and any(kind.startswith(_RANDOM) for kind in kinds):
            found.add("random")
        if kinds & set(_PYTHON):
            found.add("python")
    return found.union(*(varies_with(one) for one in dataset._inputs()))


def _map_of(mapped: Any) -> Callable[[Any], Any]:
    taken, given = mapped._input_dataset.element_spec, mapped.element_spec
    function = mapped._map_func.function

    def call(element: Any) -> Any:
        found = function(*tf_structure.to_tensor_list(taken, element))
        return tf_structure.from_tensor_list(given, tf.nest.flatten(found))

    return call


def remake_weight(layer: keras.layers.Layer, old: keras.Variable, make: Callable[[], Any]) -> Any:
    """Has a built layer forget a weight, and make others in the layer's own name scope.

    Args:
        layer: a built layer.
        old: its weight.
        make: adds the new weights to the layer.

    Returns:
        What `make` returns.
    """
    layer._untrack_variable(old)
    locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        with layer._open_name_scope():
            return make()
    finally:
        if locked:
            layer._tracker.lock()


# ---------------------------------------------------------------- a model's layers, one by one


def functional_nodes(model: keras.Model) -> tuple[list[Any], Any, list[Any]] | None:
    """Returns the inputs, the outputs and the calls of layers of a Sequential or functional model.

    Returns:
        Its symbolic inputs (flat), its symbolic outputs (structured), and Keras' records of the
        calls, each after what it needs; None for a model of another kind.
    """
    function = getattr(model, "_functional", None) or model
    by_depth = getattr(function, "_nodes_by_depth", None)
    if by_depth is None:
        return None
    calls = [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation is not None and not node.is_input
    ]
    return list(function.inputs), function._outputs_struct, calls


def functional_inputs(model: keras.Model, x: Any) -> list[Any]:
    """Returns the tensors for a functional model's inputs, in their order, as the model casts them.

    Args:
        model: a Sequential or functional model.
        x: what the model is called with.
    """
    function = getattr(model, "_functional", None) or model
    return list(function._standardize_inputs(x))


def call_node(node: Any, values: Mapping[int, Any], training: bool) -> list[Any]:
    """Calls a layer again as one of `functional_nodes` records it.

    Args:
        node: the record.
        values: the tensors that stand for the symbolic ones, by their identity.
        training: passed to a layer that wants to know.

    Returns:
        Its outputs, flat.
    """
    arguments, keywords = node.arguments.fill_in(values)
    operation = node.operation
    override = getattr(keras_functional, "operation_fn", None)
    if override is not None:  # Keras before 3.16: whatever the layer was called with in the model
        operation = override(operation, training=training)
    elif isinstance(operation, keras.layers.Layer) and keywords.get("training") is None:
        keywords = {**keywords, "training": training}
    return list(keras.tree.flatten(operation(*arguments, **keywords)))


def move_variable(variable: keras.Variable, device: str) -> None:
    """Has a Keras variable live on a device; its value goes with it."""
    old = variable._value
    with tf.device(device):
        value = tf.identity(old)
        variable._value = tf.Variable(
            value,
            dtype=old.dtype,
            trainable=old.trainable,
            name=variable.name,
            aggregation=old.aggregation,
            synchronization=old.synchronization,
        )
    variable._value._unique_id = old._unique_id  # by which optimizers know it


def compute_loss(
    model: keras.Model,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any,
    added: list[Any],
    training: bool,
) -> Any:
    """Returns what the model's `compute_loss` returns, with other losses added than its own.

    Args:
        model: a compiled model.
        x: the inputs.
        y: the targets.
        y_pred: the outputs.
        sample_weight: of each example, or None.
        added: what `model.losses` is meanwhile; its own, if empty.
        training: whether it is trained on.
    """
    before, model._losses_override = model._losses_override, list(added)
    try:
        return model._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )
    finally:
        model._losses_override = before


@contextlib.contextmanager
def unordered_stamps() -> Iterator[None]:
    """Has `tf.timestamp` wait, in what is traced in the block, only for what it is told to.

    TensorFlow would run all time stamps of a function one after the other, and with them all that
    they measure.
    """
    before = tf_control.ASYNC_STATEFUL_OPS
    tf_control.ASYNC_STATEFUL_OPS = before | {"Timestamp"}
    try:
        yield
    finally:
        tf_control.ASYNC_STATEFUL_OPS = before


def run_after(
    operations: Sequence[tf.Operation], others: Sequence[tf.Operation | tf.Tensor]
) -> None:
    """Has operations wait for others, though they have been written already.

    Args:
        operations: of the graph that is being written; none of the others needs any of them.
        others: operations or tensors, what they wait for.
    """
    until = list(dict.fromkeys(getattr(other, "op", other) for other in others))
    for operation in operations:
        operation._add_control_inputs(until)


def logits_of(output: Any) -> Any:
    """Returns what a softmax or sigmoid was computed from, as Keras' losses find it, or None."""
    logits = getattr(output, "_keras_logits", None)
    if logits is not None:
        return logits
    operation: Any = getattr(output, "op", None)
    found = operation is not None and operation.type in ("Softmax", "Sigmoid")
    return operation.inputs[0] if found and len(operation.inputs) == 1 else None


def batch_statistics(model: keras.Model) -> set[int]:
    """Returns the identities of the TensorFlow variables of BatchNormalization's statistics."""
    return {
        id(variable.value)
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built
        for variable in layer.non_trainable_variables
    }


def loss_tracker(model: keras.Model) -> Any:
    """Returns the metric that shows a compiled model's loss, or None."""
    return getattr(model, "_loss_tracker", None)


def mask_of(tensor: Any) -> Any:
    """Returns Keras' mask of a tensor, or None."""
    return keras_masking.get_keras_mask(tensor)


def set_mask(tensor: Any, mask: Any) -> None:
    """Gives a tensor a Keras mask."""
    keras_masking.set_keras_mask(tensor, mask)
