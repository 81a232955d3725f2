"""Every private name of Keras and TensorFlow that tfdist uses, looked for when this is imported.

Nothing is called, and no object is made: TensorFlow must be as fresh afterwards as before. So what
objects get as they are made is looked for in the code of their class. What is not there is not an
error here: `moved` lists it, and `installed.check_versions` tells all of it in one sentence.

A name that has another place in another version of Keras is best found by a public way that leads
to it in all of them; where there is none, `module` and `of` give None for what is not there.
"""

from __future__ import annotations

import dis
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

import keras
import tensorflow as tf

__all__ = ["PARTS", "Owner", "moved", "moved_parameters", "of"]

Owner: TypeAlias = ModuleType | type | FunctionType
"""Where a name is looked for: a module or a class that has it, or a function that gives it."""

_missing: list[str] = []


def module(name: str) -> Any:
    """Returns a module, or None where there is none of this name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _missing.append(f"there is no {name}")
        return None


def of(owner: ModuleType | None, name: str) -> Any:
    """Returns what a module has by a name, or None where the module or the name is missing."""
    found = getattr(owner, name, None)
    if owner is not None and found is None:
        _missing.append(f"{owner.__name__} has no {name}")
    return found


# ---------------------------------------------------------------- modules

keras_activations = module("keras.src.activations.activations")
keras_backend = module("keras.src.backend")
keras_variables = module("keras.src.backend.common.variables")
keras_masking = module("keras.src.backend.common.masking")
keras_tf_optimizer = module("keras.src.backend.tensorflow.optimizer")
keras_image_layer = module(
    "keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer"
)
keras_loss = module("keras.src.losses.loss")
keras_losses = module("keras.src.losses.losses")
keras_reduction = module("keras.src.metrics.reduction_metrics")
keras_functional = module("keras.src.models.functional")
keras_function = module("keras.src.ops.function")
keras_node = module("keras.src.ops.node")
keras_arguments = module("keras.src.ops.symbolic_arguments")
keras_optimizer = module("keras.src.optimizers.base_optimizer")
keras_loss_scale = module("keras.src.optimizers.loss_scale_optimizer")
keras_global_state = module("keras.src.backend.common.global_state")
keras_saving = module("keras.src.saving.saving_lib")
keras_seed = module("keras.src.random.seed_generator")
keras_compile = module("keras.src.trainers.compile_utils")
keras_data_adapters = module("keras.src.trainers.data_adapters")
keras_array_slicing = module("keras.src.trainers.data_adapters.array_slicing")
keras_data_utils = module("keras.src.trainers.data_adapters.data_adapter_utils")
keras_tracking = module("keras.src.utils.tracking")

tf_random_ops = module("tensorflow.python.ops.gen_random_ops")
tf_session = module("tensorflow.python.client.pywrap_tf_session")
tf_batch = module("tensorflow.python.data.ops.batch_op")
tf_dataset = module("tensorflow.python.data.ops.dataset_ops")
tf_map = module("tensorflow.python.data.ops.map_op")
tf_prefetch = module("tensorflow.python.data.ops.prefetch_op")
tf_repeat = module("tensorflow.python.data.ops.repeat_op")
tf_cache = module("tensorflow.python.data.ops.cache_op")
tf_shuffle = module("tensorflow.python.data.ops.shuffle_op")
tf_functions = module("tensorflow.python.data.ops.structured_function")
tf_structure = module("tensorflow.python.data.util.structure")
tf_workers = module("tensorflow.python.distribute.collective_all_reduce_strategy")
tf_remote = module("tensorflow.python.distribute.coordinator.values")
tf_cross_device = module("tensorflow.python.distribute.cross_device_ops")
tf_launchers = module("tensorflow.python.distribute.cross_device_utils")
tf_mirrored = module("tensorflow.python.distribute.mirrored_strategy")
tf_one_device = module("tensorflow.python.distribute.one_device_strategy")
tf_distribute = module("tensorflow.python.distribute.distribute_lib")
tf_values = module("tensorflow.python.distribute.values")
tf_context = module("tensorflow.python.eager.context")
tf_coordination = module("tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2")
tf_record = module("tensorflow.python.eager.record")
tf_function = module("tensorflow.python.eager.polymorphic_function.polymorphic_function")
tf_atomic_function = module("tensorflow.python.eager.polymorphic_function.atomic_function")
tf_control = module("tensorflow.python.framework.auto_control_deps")
tf_func_graph = module("tensorflow.python.framework.func_graph")
tf_ops = module("tensorflow.python.framework.ops")
tf_seeds = module("tensorflow.python.framework.random_seed")
tf_conditions = module("tensorflow.python.ops.cond_v2")
tf_loops = module("tensorflow.python.ops.while_v2")
tf_func_graphs = module("tensorflow.python.ops.control_flow_v2_func_graphs")
tf_stateless = module("tensorflow.python.ops.gen_stateless_random_ops")
tf_counted = module("tensorflow.python.ops.gen_stateless_random_ops_v2")
tf_variables = module("tensorflow.python.ops.resource_variable_ops")
tf_lists = module("tensorflow.python.trackable.data_structures")

# ---------------------------------------------------------------- what they and their objects have

_MAP = ("_input_dataset", "_map_func")
_MIRRORED = ("_collective_key_base", "_cross_device_ops", "_use_merge_call")

PARTS: tuple[tuple[Owner, tuple[str, ...]], ...] = (
    # a model and its parts
    (
        keras.Model,
        (
            "_compile_loss",
            "_compute_loss",
            "_flatten_layers",
            "_flatten_metrics_in_order",
            "_initial_epoch",
            "_loss_tracker",
            "_losses_override",
            "_symbolic_build",
        ),
    ),
    (keras.Sequential, ("_functional",)),
    (keras.layers.Embedding, ("_embeddings",)),
    (keras.layers.Dense, ("_kernel",)),
    (keras.layers.EinsumDense, ("_kernel",)),
    (
        keras.layers.MultiHeadAttention,
        ("_compute_attention", "_key_dense", "_output_dense", "_query_dense", "_value_dense"),
    ),
    (
        keras.layers.Layer,
        (
            *("_layers", "_non_trainable_variables", "_open_name_scope", "_tracker"),
            *("_trainable_variables", "_untrack_variable"),
        ),
    ),
    (of(keras_tracking, "Tracker"), ("lock", "locked", "unlock")),
    (of(keras_function, "Function"), ("_nodes_by_depth", "_outputs_struct")),
    (of(keras_functional, "Functional"), ("_standardize_inputs",)),
    (of(keras_node, "Node"), ("arguments", "is_input", "operation")),
    (of(keras_arguments, "SymbolicArguments"), ("fill_in",)),
    (of(keras_compile, "CompileLoss"), ("_flat_losses",)),
    (keras.callbacks.SwapEMAWeights, ("_ema_weights_in_model",)),
    (
        keras.callbacks.ModelCheckpoint,
        ("_batches_seen_since_last_saving", "_last_batch_seen"),
    ),
    (
        keras.callbacks.TensorBoard,
        ("_global_test_batch", "_global_train_batch", "_should_trace"),
    ),
    # variables, tensors, optimizers
    (keras.Variable, ("_direct_assign", "_path", "_value", "handle")),
    (of(keras_activations, "softmax"), ("_keras_logits",)),
    (of(keras_activations, "sigmoid"), ("_keras_logits",)),
    (keras_backend, ("compute_output_spec",)),
    (keras_variables, ("AutocastScope",)),
    (keras_masking, ("get_keras_mask", "set_keras_mask")),
    (
        keras.optimizers.Optimizer,
        (
            "_distribution_strategy",
            "_exclude_from_weight_decay",
            "_iterations",
            "_learning_rate",
            "_model_variables_moving_average",
            "_trainable_variables",
            "_trainable_variables_indices",
            "_untrack_variable",
            "_use_weight_decay",
            "_var_key",
            "_variables",
        ),
    ),
    (keras.optimizers.Nadam, ("_u_product",)),
    (of(tf_variables, "BaseResourceVariable"), ("_distribute_strategy", "_unique_id")),
    (of(tf_lists, "ListWrapper"), ("_non_append_mutation", "_update_snapshot")),
    (keras_loss, ("squeeze_or_expand_to_same_rank",)),
    # data
    (keras_data_utils, ("class_weight_to_sample_weights", "unpack_x_y_sample_weight")),
    (
        keras_data_adapters,
        ("ArrayDataAdapter", "GeneratorDataAdapter", "PyDatasetAdapter", "get_data_adapter"),
    ),
    (of(keras_data_adapters, "ArrayDataAdapter"), ("_inputs", "_num_samples")),
    (of(keras_data_adapters, "PyDatasetAdapter"), ("enqueuer",)),
    (
        keras_array_slicing,
        (
            "TensorflowSparseWrapper",
            "convert_to_sliceable",
            "slice_tensorflow_sparse_wrapper",
            "train_validation_split",
        ),
    ),
    (of(tf_batch, "_BatchDataset"), ("_batch_size", "_drop_remainder", "_input_dataset")),
    (of(tf_batch, "_ParallelBatchDataset"), ("_batch_size", "_drop_remainder", "_input_dataset")),
    (of(tf_dataset, "_OptionsDataset"), ("_input_dataset",)),
    (of(tf_map, "_MapDataset"), _MAP),
    (of(tf_map, "_ParallelMapDataset"), (*_MAP, "_deterministic", "_num_parallel_calls")),
    (of(tf_prefetch, "_PrefetchDataset"), ("_input_dataset",)),
    (of(tf_repeat, "_RepeatDataset"), ("_count", "_input_dataset")),
    (of(tf_cache, "CacheDataset"), ("_input_dataset",)),
    (of(tf_shuffle, "_ShuffleDataset"), ("_seed", "_seed2")),
    (of(tf_functions, "StructuredFunctionWrapper"), ("function",)),
    (tf_structure, ("from_tensor_list", "to_tensor_list")),
    # strategies
    (
        of(tf_mirrored, "MirroredExtended"),
        (*_MIRRORED, "_collective_ops", "_make_collective_ops_with_fallbacks"),
    ),
    (of(tf_workers, "CollectiveAllReduceExtended"), _MIRRORED),
    (of(tf_cross_device, "CollectiveAllReduce"), ("_launchers",)),
    (
        of(tf_launchers, "CollectiveReplicaLauncher"),
        (
            *("_all_gather", "_device", "_get_ordering_token", "_group_key", "_group_size"),
            *("_next_instance_key", "_options", "all_reduce"),
        ),
    ),
    (of(tf_launchers, "CollectiveKeys"), ("get_group_key",)),
    (tf_conditions, ("get_func_graphs",)),
    (tf_loops, ("_get_graph",)),
    (of(tf_one_device, "OneDeviceExtended"), ("_create_variable", "_device", "_update")),
    (of(tf_remote, "PerWorkerValues"), ("_type_spec",)),
    (of(tf_remote, "RemoteValueImpl"), ("_type_spec",)),
    (tf_distribute, ("_get_default_replica_mode", "_pop_per_thread_mode", "_push_per_thread_mode")),
    (of(tf_distribute, "_CurrentDistributionContext"), ("_device_scope",)),
    (of(tf_values, "DistributedVariable"), ("assign", "values")),
    # TensorFlow's graphs
    (
        of(tf_context, "Context"),
        (
            "configure_coordination_service",
            "ensure_initialized",
            "function_scope_id",
            "remove_function",
        ),
    ),
    (tf_atomic_function, ("RUNTIME_FUNCTION_REFS",)),
    (tf_coordination, ("CoordinatedJob",)),
    (of(tf_function, "Function"), ("_autograph", "_jit_compile", "python_function")),
    (of(tf_func_graph, "FuncGraph"), ("captures", "outer_graph")),
    (of(tf_func_graphs, "WhileBodyFuncGraph"), ()),
    (
        of(tf_ops, "Graph"),
        (
            "_c_graph",
            "_current_control_dependencies",
            "_variable_creator_stack",
            "get_name_scope",
            "switch_to_thread_local",
        ),
    ),
    (tf_record, ("record_operation", "should_record_backprop", "stop_recording")),
    (of(tf_ops, "SymbolicTensor"), ("_as_tf_output",)),
    (
        tf_random_ops,
        (
            "random_shuffle",
            "random_standard_normal",
            "random_uniform",
            "random_uniform_int",
            "truncated_normal",
        ),
    ),
    (tf_session, ("TF_TryEvaluateConstant_wrapper",)),
    (tf_context, ("context", "eager_mode", "global_seed")),
    (tf_control, ("ASYNC_STATEFUL_OPS",)),
    (tf.data.Dataset, ("_functions", "_inputs")),
    (tf.Operation, ("_add_control_inputs",)),
    (tf.GradientTape, ("_persistent",)),
)
"""Modules, classes and functions, each with the names that it has or gives to objects."""

_CALLS: Mapping[str, tuple[Owner, tuple[str, ...]]] = {
    "keras.Model._symbolic_build": (keras.Model, ("data_batch",)),
    "keras.Model._compute_loss": (keras.Model, ("x", "y", "y_pred", "sample_weight", "training")),
    "keras.Model._flatten_metrics_in_order": (keras.Model, ("logs",)),
    "get_data_adapter": (
        keras_data_adapters,
        ("x", "y", "sample_weight", "batch_size", "steps_per_epoch", "shuffle", "class_weight"),
    ),
    "convert_to_sliceable": (keras_array_slicing, ("target_backend",)),
    "slice_tensorflow_sparse_wrapper": (keras_array_slicing, ("sparse_wrapper", "indices")),
    "train_validation_split": (keras_array_slicing, ("arrays", "validation_split")),
    "class_weight_to_sample_weights": (keras_data_utils, ("y", "class_weight")),
    "unpack_x_y_sample_weight": (keras_data_utils, ("data",)),
}
"""Functions that tfdist calls: where they are, and the parameters that they must have."""


# ---------------------------------------------------------------- what is not there


def moved() -> list[str]:
    """Returns what is not where this module says that it is, each in a few words."""
    found = list(_missing)
    for owner, names in PARTS:
        if owner is not None:  # else it is missing as a whole
            found += [f"{_named(owner)} has no {name}" for name in names if not has(owner, name)]
    for name, (owner, wanted) in _CALLS.items():
        function = getattr(owner, name.rpartition(".")[2], None)
        if function is not None:
            given = inspect.signature(function).parameters
            found += [f"{name} takes no {p}" for p in wanted if p not in given]
    return found


def moved_parameters(
    name: str, function: Callable[..., object] | None, wanted: tuple[str, ...]
) -> list[str]:
    """Returns in what a function that is replaced is another one than tfdist was written for."""
    if function is None:
        return [f"there is no {name}"]
    given = tuple(inspect.signature(function).parameters)
    return [] if given == wanted else [f"{name} takes ({', '.join(given)})"]


def has(owner: Owner, name: str) -> bool:
    """Whether a module or class has a name, or its code gives it to objects.

    Args:
        owner: a module, a class (its methods, and those of its bases, are searched), or a function.
        name: of an attribute.
    """
    if hasattr(owner, name):
        return True
    return any(_gives(function, name) for function in _functions_of(owner))


def _functions_of(owner: Owner) -> Iterable[FunctionType]:
    if inspect.isclass(owner):
        members = [member for base in owner.__mro__ for member in vars(base).values()]
        return [inspect.unwrap(m) for m in members if inspect.isfunction(m)]
    return [inspect.unwrap(owner)] if inspect.isfunction(owner) else []


def _gives(function: FunctionType, name: str) -> bool:
    code = function.__code__
    return name in code.co_names and any(
        one.opname == "STORE_ATTR" and one.argval == name for one in dis.get_instructions(code)
    )


def _named(owner: Owner) -> str:
    if inspect.ismodule(owner):
        return owner.__name__
    return f"{owner.__module__}.{owner.__qualname__}"
