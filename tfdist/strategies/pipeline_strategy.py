"""The strategy of pipelined model parallelism: which device runs which stage.

`PipelineStrategy` is a real `tf.distribute.Strategy`, of one replica from Keras' point of view.
Variables made in its scope are spread over the stages' devices at once, by bytes, so that a model
larger than the chief's memory can be built; `tfdist.plug` moves them to their stages.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdist import log, process
from tfdist.cluster import Cluster
from tfdist.compat import tf_graphs
from tfdist.errors import StrategyError
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.strategies import logical_devices, registry
from tfdist.strategies.servers import coordinating
from tfdist.strategies.strategy_options import Options

__all__ = ["PipelineStrategy", "connect", "local_devices", "make_pipeline", "same_device"]


class PipelineStrategy(tf.distribute.OneDeviceStrategy):
    """Trains one model whose layers live on several devices.

    Args:
        plan: the degrees.
        devices: the full name of each of the plan's tasks' devices.
        home: the device of this process that feeds the pipeline.

    Attributes:
        plan: the degrees.
        devices: the tasks' devices, replica by replica.
        home: see above.
    """

    def __init__(self, plan: PipelinePlan, devices: tuple[str, ...], home: str) -> None:
        if len(devices) != len(plan.tasks):
            raise StrategyError(f"{len(devices)} devices for {len(plan.tasks)} tasks")
        super().__init__(home)
        self.plan = plan
        self.devices = devices
        self.home = home
        extended = self.extended
        base: Any = type(extended)
        extended.__class__ = _placing(base)
        # Replicas read the first one's variables: only its devices hold any.
        extended.tfdist_updated = weakref.WeakKeyDictionary()
        extended.tfdist_fill = dict.fromkeys(devices[: len(devices) // plan.replicas], 0)

    def run_on(self, device: str) -> None:
        """Has `run` compute on another device than this process' own."""
        self.extended.tfdist_run_on(device)

    def device(self, replica: int, task: int, part: int = 0) -> str:
        """Returns the device of a task of a replica.

        Args:
            replica: its number.
            task: its number in the replica, those that share weights counted as one.
            part: which of those, that has this part of each weight.
        """
        size = self.plan.tensor_parallel_size
        return self.devices[(replica * self.plan.tasks_each + task) * size + part]


@functools.cache
def _placing(base: Any) -> type:
    """The extended part of `OneDeviceStrategy`, with variables on several devices."""

    class Placing(base):
        """Spreads new variables over devices, and updates each where it lives."""

        _device: str

        def tfdist_run_on(self, device: str) -> None:
            self._device = device

        def _create_variable(
            self, next_creator: Callable[..., tf.Variable], **kwargs: object
        ) -> tf.Variable:
            if kwargs.get("colocate_with") is not None:
                return super()._create_variable(next_creator, **kwargs)
            kwargs.pop("colocate_with", None)
            fill: dict[str, int] = self.tfdist_fill
            device = min(fill, key=fill.__getitem__)
            with tf.device(device):
                made = next_creator(**kwargs)
            size = math.prod(made.shape.as_list() or [1]) * made.dtype.size
            fill[device] += size
            return made

        def _update(
            self,
            var: tf.Variable,
            fn: Callable[..., object],
            args: object,
            kwargs: object,
            group: bool,
        ) -> object:
            before, self._device = self._device, var.device
            graph = tf.compat.v1.get_default_graph()
            updated = self.tfdist_updated.setdefault(graph, {})
            try:
                if tf.executing_eagerly():
                    return super()._update(var, fn, args, kwargs, group)
                # One variable of a device after the other: what an optimizer computes on the way
                # is several times as large as the variable. Only what is computed on that device
                # waits: what the chief has to send does not.
                known = len(graph.get_operations())
                with tf.device(None):  # what was asked for outside does not know this variable
                    result = super()._update(var, fn, args, kwargs, group)
                own = [
                    op
                    for op in graph.get_operations()[known:]
                    if op.type != "Const" and same_device(op.device, var.device)
                ]
                tf_graphs.run_after(own, updated.get(var.device, []))
                assigned = [op for op in own if op.type.startswith("Assign")]
                updated[var.device] = assigned or updated.get(var.device, [])
                return result
            finally:
                self._device = before

    return Placing


def same_device(one: str, other: str) -> bool:
    """Whether two names, of which each may leave parts out, can be one device."""
    first, second = map(tf.DeviceSpec.from_string, (one, other))
    parts = ("job", "replica", "task", "device_type", "device_index")
    pairs = [(getattr(first, part), getattr(second, part)) for part in parts]
    return all(a == b for a, b in pairs if a is not None and b is not None)


def local_devices(
    kind: logical_devices.Kind = "GPU", count: int | None = None
) -> tuple[list[str], list[str]]:
    """Returns the short and the full names of this machine's devices: GPUs, or logical CPUs.

    Args:
        kind: which are wanted; CPUs stand in where there is no GPU.
        count: how many; None takes all.
    """
    there = tf.config.list_logical_devices(kind) or tf.config.list_logical_devices("CPU")
    here = [device.name for device in there if "/job:" not in device.name][:count]
    return [":".join(name.rsplit(":", 2)[-2:]) for name in here], here


def connect(spec: tf.train.ClusterSpec) -> list[str]:
    """Connects the chief to the workers' TensorFlow servers, which must be listening.

    Args:
        spec: a chief, with a free address for TensorFlow's own server, and workers.

    Returns:
        The full names of the workers' first devices (a GPU where there is one), in their order.
    """
    tf.config.experimental_connect_to_cluster(
        spec, job_name="chief", task_index=0, protocol="grpc", make_master_device_default=True
    )
    names = [device.name for device in tf.config.list_logical_devices()]
    devices = []
    for index in range(spec.num_tasks("worker")):
        own = [name for name in names if f"/job:worker/replica:0/task:{index}/" in name]
        gpus = [name for name in own if "GPU" in name]
        devices.append((gpus or [name for name in own if "CPU" in name])[0])
    return devices


def make_pipeline(
    options: Options, kind: str = "pipeline", *, cluster: Cluster | None = None
) -> PipelineStrategy:
    """Makes the strategy: over a cluster's workers, or over this machine's devices.

    On a worker of a cluster it does not return: the task serves the chief, and its process ends
    when the job does.

    Args:
        options: the degrees, threads, the deadline and logical devices (cut already).
        kind: "pipeline" or "tensor_parallel".
        cluster: where there is one, with this process's own task.

    Raises:
        ClusterError: the spec does not fit this strategy.
        RendezvousError: the tasks did not come together.
        StrategyError: the degrees do not fit what there is.
        TaskLost: on a worker, where the chief has ended badly.
        SystemExit: on a worker, with 0, where it has ended well.
    """
    if cluster is None:
        names, devices = local_devices(logical_devices.in_use(options), options.logical_count)
        plan = options.plan(kind, tuple(names))
        log.info("%s: %s", kind.replace("_", " "), plan.describe())
        if kind == "tensor_parallel" and plan.tensor_parallel_size == 1:
            log.warning(
                "nothing is cut: this machine has one device (%s); logical_devices=2 makes two of "
                "it, and `tfdist run --workers 2 --chief` starts workers",
                names[0],
            )
        return PipelineStrategy(plan, tuple(devices), "/device:CPU:0")
    cluster.validate(kind, resolve=not process.names_come_late())
    workers = tuple(str(task) for task in cluster.tasks if task.type == "worker")
    if not workers or "chief" not in cluster.job_names:
        holds = "compute its stages" if kind == "pipeline" else "hold its weights"
        raise StrategyError(
            f"{kind} over the jobs {', '.join(cluster.job_names)}: give one chief, which feeds the "
            f"model, and workers, which {holds}"
        )
    plan = options.plan(kind, workers)  # before anybody waits for anybody
    with coordinating(cluster, options, kind) as (spec, agreement):
        devices = connect(spec)
    log.info("%s: %s", kind.replace("_", " "), plan.describe())
    made = PipelineStrategy(plan, tuple(devices), "/job:chief/replica:0/task:0/device:CPU:0")
    registry.remember(made, agreement.membership)
    return made
