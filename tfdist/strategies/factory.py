"""`tfdist.strategy`: one line from the cluster spec to a strategy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tfdist import log, process
from tfdist.cluster import Cluster
from tfdist.cluster.checks import MODEL_PARALLEL
from tfdist.environments import detect_cluster, why_not_alone
from tfdist.errors import ClusterError, StrategyError
from tfdist.exits import tell_by_exit_code
from tfdist.strategies import current
from tfdist.strategies.strategy_options import Options, check_kind

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["strategy"]

_OVER_MACHINES = {"multi_worker_mirrored": "--workers 2", "parameter_server": "--workers 2 --ps 1"}
"""The kinds that need a cluster, and how `tfdist run` makes a small one."""


def strategy(
    kind: str = "auto",
    cluster: Cluster | None = None,
    *,
    device: str | None = None,
    devices: Sequence[str] | None = None,
    logical_devices: int | str | None = None,
    communication: str = "auto",
    rendezvous_timeout: float | None = None,
    intra_op_threads: int | None = None,
    inter_op_threads: int | None = None,
    microbatches: int = 4,
    schedule: str = "1f1b",
    stages: int | Sequence[str] | None = None,
    replicas: int = 1,
    recompute: bool = False,
    place: Mapping[str, int] | None = None,
    tensor_parallel_size: int | None = None,
    layout_map: Mapping[str, object] | None = None,
    **unknown: object,
) -> tf.distribute.Strategy:
    """Returns the strategy that trains on the devices and machines there are.

    Args:
        kind: "one_device"; "mirrored": all GPUs of this machine; "multi_worker_mirrored": all
            devices of all workers, in step; "parameter_server": workers at their own pace, with
            the variables on ps tasks; "pipeline": the layers on different workers, or on
            the devices of this machine; "tensor_parallel": each layer's weights cut over the
            workers, or over the devices of this machine; or "auto": a ps in the cluster means
            parameter server, several workers mean multi-worker mirrored, several GPUs mean
            mirrored, else one device.
        cluster: the machines of the job; by default what the environment tells (TF_CONFIG, or
            TFDIST_CLUSTER and TFDIST_TASK).
        device: of `one_device`, such as "CPU:0" or "GPU:1"; by default the first GPU, or the CPU.
        devices: of `mirrored`; by default all GPUs of this machine, or its logical CPUs.
        logical_devices: cuts this machine's first GPU, or the CPU where there is none, into so
            many devices, so that `mirrored`, `pipeline` and `tensor_parallel` can be tried on any
            machine; "CPU:2" or "GPU:2" says which. By default it stays whole.
        communication: how gradients travel between the workers of `multi_worker_mirrored`: "ring",
            "hierarchical" (on CPUs: within each host first, and between many hosts level by level),
            "nccl" (a GPU for each), or "auto": NCCL where every worker has GPUs of its own, else
            the ring, and for sums that wait for fewer messages so, of six workers and more,
            level by level. Take "hierarchical" where links between hosts are slow.
        rendezvous_timeout: seconds to wait for the other tasks before training; by default 120, or
            what the environment variable TFDIST_RENDEZVOUS_TIMEOUT says. Raise it where a
            scheduler starts the tasks minutes apart.
        intra_op_threads: threads within one operation of this process; by default TensorFlow's
            choice, a thread a core. Set it where several tasks share a machine.
        inter_op_threads: operations of this process that run at the same time; by default
            TensorFlow's choice.
        microbatches: into how many parts a pipeline cuts each batch: more keep its stages busier,
            and make each product smaller.
        schedule: in which order a pipeline works on them: "1f1b" holds the fewest activations,
            "zero_bubble" waits less, "interleaved" and "zb_v" give each task two stages that do not
            follow each other, "gpipe" holds all, "sequential" is what they are compared with; see
            `tfdist.pipeline`.
        stages: where a pipeline's model is cut: how many stages, or the names of the layers that
            begin the later ones; None cuts into one for each task, or two ("interleaved", "zb_v").
            A model of as many Keras models as there are stages is cut between these, any other by
            what its layers cost.
        replicas: how many copies of the pipeline, or of a model whose weights are cut, share each
            batch; the workers must be a multiple.
        recompute: whether a stage's forward pass is done again in the backward pass: a third more
            work, for the memory of its activations.
        place: from patterns of layer names to the number of a task in its stage, where a stage has
            several: {"tower_a*": 0, "tower_b*": 1}.
        tensor_parallel_size: over how many workers or devices the weights of a layer are cut
            (Shoeybi et al., Megatron-LM, 2019). Under "tensor_parallel" by default over all there
            are in a replica; under "pipeline" over the tasks of each stage, by default over one.
        layout_map: which weights are cut, and along which axis, as `keras.distribution.LayoutMap`
            is spelt: a dictionary from patterns of weights' whole paths to an entry an axis, such
            as {".*up/kernel": (None, "model"), ".*down/kernel": ("model", None)}, or a LayoutMap.
            Of Dense, EinsumDense, Embedding and MultiHeadAttention. None has tfdist choose.
        **unknown: refused, with the nearest name that there is.

    Returns:
        A `tf.distribute.Strategy`; build and compile the model inside its `scope()`. Under
        parameter_server, pipeline and tensor_parallel the call returns on the chief alone: workers
        and ps tasks serve inside it, and end their processes with exit code 0 when the chief's job
        has ended well.

    Raises:
        ClusterError: the cluster spec is wrong (told before TensorFlow opens a port).
        StrategyError: no such kind, or an option that does not fit it.
        RendezvousError: a task of the job did not come in time, or came with another spec.

    Example:
        >>> strategy = tfdist.strategy("mirrored", logical_devices=2)
        >>> strategy.num_replicas_in_sync
        2
    """
    given = {k: v for k, v in locals().items() if k not in ("kind", "cluster", "unknown")}
    tell_by_exit_code()
    check_kind(kind)
    if cluster is not None and not isinstance(cluster, Cluster):
        raise ClusterError(
            f"cluster={cluster!r}: give a tfdist.Cluster, such as Cluster.from_json(text) or "
            "Cluster.from_file(path) make"
        )
    chosen = Options.from_keywords({**unknown, **given})
    with current.making():
        return _made(kind, cluster, chosen)


def _made(kind: str, cluster: Cluster | None, chosen: Options) -> tf.distribute.Strategy:
    if kind != "auto":  # a script written for "auto" may say what matters in some settings only
        chosen.check_for(kind)
    here = process.join(cluster or detect_cluster())
    cluster = here.cluster
    if cluster is None and (why := why_not_alone(os.environ)):
        log.warning(why)
    if here.is_evaluator:
        kind = "one_device" if kind == "auto" or kind in _OVER_MACHINES else kind
        cluster = None  # it stands beside the job and scores checkpoints by itself
    if kind in _OVER_MACHINES and cluster is None:
        raise StrategyError(
            f"{kind} needs a cluster, but TF_CONFIG is not set: start the program with "
            f"`tfdist run {_OVER_MACHINES[kind]} script.py`, or set TF_CONFIG on every machine"
        )
    if cluster is not None and "ps" in cluster.job_names and kind == "auto":
        kind = "parameter_server"
    spans = cluster is not None and cluster.num_workers > 1
    if kind in ("one_device", "mirrored") and spans:
        raise StrategyError(
            f"{kind} trains on this machine alone, but the cluster has several workers, "
            "which would each train a model of their own: use kind='auto', or unset TF_CONFIG"
        )

    if kind == "auto" and spans:
        kind = "multi_worker_mirrored"
    over = (*_OVER_MACHINES, *MODEL_PARALLEL)
    if cluster is not None and kind in over:
        if before := current.made_before(kind, cluster, chosen):
            return before
        if spans or kind != "multi_worker_mirrored":
            from tfdist.rendezvous.agreement import refusals_told

            with refusals_told(cluster, kind):
                # Before the seconds that TensorFlow takes.
                cluster.validate(kind, resolve=not process.names_come_late())

    from tfdist.compat.installed import check_versions
    from tfdist.compat.tf_strategies import read_as_one_number
    from tfdist.strategies import (
        logical_devices,
        multi_worker,
        one_machine,
        own_gpus,
        parameter_server,
        pipeline_strategy,
        registry,
    )

    check_versions()
    read_as_one_number()
    own_gpus.check_seen()

    if kind == "auto":
        several = len(own_gpus.visible()) > 1 or chosen.logical_devices
        kind = "mirrored" if several or chosen.devices else "one_device"
    one_machine.set_threads(chosen)
    if cluster is None or kind in ("one_device", "mirrored"):
        logical_devices.cut(chosen)
    own_gpus.limit_memory()
    made: tf.distribute.Strategy
    if kind == "one_device":
        made = one_machine.make_one_device(chosen)
    elif kind == "mirrored":
        made = one_machine.make_mirrored(chosen)
    elif kind in MODEL_PARALLEL:
        made = pipeline_strategy.make_pipeline(chosen, kind, cluster=cluster)
    else:
        assert cluster is not None
        if kind == "parameter_server":
            made = parameter_server.make_parameter_server(cluster, chosen)
        else:
            made = multi_worker.make_multi_worker_mirrored(cluster, chosen)
    if kind in ("one_device", "mirrored", "multi_worker_mirrored"):
        named = chosen.device or chosen.devices or chosen.logical_devices
        own_gpus.tell_devices(made, chosen=bool(named))
    if kind in ("mirrored", "multi_worker_mirrored"):
        registry.remember(made)
    if cluster is not None and kind not in ("one_device", "mirrored"):
        current.keep(made, kind, cluster, chosen)
    return made
