"""The GPUs of this process: those that it was given, those that TensorFlow sees, and their memory.

All of it comes before TensorFlow's first operation, apart from `tell_devices`.
"""

from __future__ import annotations

import functools
import os
import socket

import tensorflow as tf

from tfdist import log, process
from tfdist.errors import StrategyError
from tfdist.machine.gpus import VISIBLE_VARIABLE, gpus_here

__all__ = [
    "check_seen",
    "ids",
    "limit_memory",
    "limit_server",
    "name_of",
    "of_replicas",
    "of_workers",
    "share_memory",
    "tell_devices",
    "too_late",
    "visible",
]


def visible() -> list[tf.config.PhysicalDevice]:
    """Returns the GPUs that TensorFlow sees and the program has not hidden from it."""
    gpus: list[tf.config.PhysicalDevice] = tf.config.get_visible_devices("GPU")
    return gpus


def name_of(gpu: tf.config.PhysicalDevice) -> str:
    """Returns what a line of a log calls a GPU, such as "GPU:0 (NVIDIA H100 80GB HBM3)"."""
    model = tf.config.experimental.get_device_details(gpu).get("device_name", "")
    short = ":".join(gpu.name.rsplit(":", 2)[-2:])
    return f"{short} ({model})" if model else short


def of_replicas(strategy: tf.distribute.Strategy) -> tuple[str, ...]:
    """Returns the GPUs on which this process's replicas compute, in their order.

    There are none where some replica computes on a CPU, nor without a strategy (an evaluator).
    """
    if not visible():
        return ()
    try:
        devices = tuple(strategy.extended.worker_devices)
    except RuntimeError:  # TensorFlow's default strategy knows of none
        return ()
    kinds = {tf.DeviceSpec.from_string(one).device_type for one in devices}
    return devices if kinds == {"GPU"} else ()


def of_workers() -> str:
    """Returns the device on which each worker of parameter servers takes its steps.

    Without a device TensorFlow would take a worker's CPU, where the chief has no GPU itself.

    Returns:
        Each one's own first GPU, in the words of a graph that any of them may run; "" for their
        CPUs, where some worker has no GPU: the others' would then compute for it, over the network.
    """
    devices = [tf.DeviceSpec.from_string(one.name) for one in tf.config.list_logical_devices()]
    workers = {one.task for one in devices if one.job == "worker"}
    having = {one.task for one in devices if one.job == "worker" and one.device_type == "GPU"}
    if not having:
        return ""
    if without := sorted(workers - having):
        log.warning(
            "COMPUTING ON THE CPU: %s without a GPU, so that no worker uses its own; give every "
            "worker one, or none",
            ", ".join(f"worker:{task}" for task in without),
        )
        return ""
    log.info("computing on each worker's GPU:0")
    return "/device:GPU:0"


def check_seen() -> None:
    """Looks whether TensorFlow sees the GPUs that this process was given; warns where it does not.

    Raises:
        StrategyError: it sees fewer than somebody has asked for (`tfdist run --gpus_per_task`).
    """
    asked, seen = process.gpus_asked(), len(tf.config.list_physical_devices("GPU"))
    if asked > seen:
        raise StrategyError(
            f"{asked} GPU(s) were asked for, but TensorFlow sees {seen or 'none'}: "
            f"{_why_unseen()}, or give --gpus_per_task 0 to compute on the CPU"
        )
    if seen:
        return
    if given := gpus_here(os.environ).gpus:
        names = ", ".join(f"{gpu.short} ({gpu.name})" for gpu in given)
        _warn_once(
            f"COMPUTING ON THE CPU: this process may use {names}, but TensorFlow sees no GPU: "
            f"{_why_unseen()}, or set {VISIBLE_VARIABLE}=-1 to have the CPU without this warning"
        )


def _why_unseen() -> str:
    said = os.environ.get(VISIBLE_VARIABLE)
    set_to = f"{VISIBLE_VARIABLE} is {'not set' if said is None else repr(said)}"
    if not tf.test.is_built_with_cuda():
        return f"{set_to}; this TensorFlow is built without CUDA: install tensorflow[and-cuda]"
    return (
        f"{set_to}; install its CUDA libraries (tensorflow[and-cuda]) where they are missing, for "
        "which TF_CPP_MIN_LOG_LEVEL=0 shows what it did not find"
    )


@functools.cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


def ids() -> tuple[str, ...]:
    """Returns the ids of the devices that this process computes on, by names that all hosts share.

    A GPU that is cut into logical devices stands for each of them.
    """
    physical = tf.config.list_physical_devices("GPU")
    known = [gpu.id for gpu in gpus_here(os.environ).gpus] if physical else []
    if len(known) != len(physical):  # TensorFlow leaves out what is too old for it
        words = [word.strip() for word in os.environ.get(VISIBLE_VARIABLE, "").split(",") if word]
        known = words if len(words) == len(physical) else [str(n) for n in range(len(physical))]
    host = socket.gethostname()
    named = [one if one.startswith(("GPU-", "MIG-")) else f"{host}/{one}" for one in known]
    found: list[str] = []
    for gpu in visible():
        cut = tf.config.get_logical_device_configuration(gpu) or [None]
        found += [named[physical.index(gpu)]] * len(cut)
    return tuple(found)


def limit_memory() -> None:
    """Takes no more of each GPU than TFDIST_GPU_MEMORY says, which `tfdist run` sets.

    Raises:
        StrategyError: TensorFlow has started.
    """
    memory = process.gpu_memory()
    if memory is None:
        return
    for gpu in visible():
        if tf.config.get_logical_device_configuration(gpu) is not None:
            continue
        try:
            tf.config.set_logical_device_configuration(
                gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=memory)]
            )
        except RuntimeError as error:
            raise too_late(f"TFDIST_GPU_MEMORY={memory}") from error


def limit_server(config: tf.compat.v1.ConfigProto, *, computes: bool) -> None:
    """Has a TensorFlow server take the first GPU alone, or none: its chief uses no other.

    Args:
        config: the server's, which is changed.
        computes: whether it is to have one; else it keeps variables, in the host's memory.
    """
    gpus = visible()
    if not computes or not gpus:
        config.device_count["GPU"] = 0
        return
    first = tf.config.list_physical_devices("GPU").index(gpus[0])
    config.gpu_options.visible_device_list = str(first)
    if (memory := process.gpu_memory()) is not None:
        config.gpu_options.experimental.virtual_devices.add().memory_limit_mb.append(memory)


def share_memory() -> None:
    """Takes a GPU's memory as it is needed, where another task computes on it too."""
    for gpu in visible():
        if tf.config.get_logical_device_configuration(gpu) is not None:
            continue  # whose part is set
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError):  # started, which the strategy itself will tell
            return


def too_late(what: str) -> StrategyError:
    """Returns the error that TensorFlow has started, so that its devices are as they are."""
    return StrategyError(
        f"{what}, but TensorFlow has started with the devices that it has: make the strategy "
        "before TensorFlow's first operation (in a notebook: restart the kernel)"
    )


def tell_devices(strategy: tf.distribute.Strategy, *, chosen: bool) -> None:
    """Logs what a strategy computes on where there is a GPU; warns where it leaves the GPUs alone.

    Args:
        strategy: just made, of devices of this process.
        chosen: whether the program has asked for these devices.
    """
    gpus = visible()
    if not gpus:
        return
    devices = [tf.DeviceSpec.from_string(one) for one in strategy.extended.worker_devices]
    short = ", ".join(f"{one.device_type}:{one.device_index}" for one in devices)
    there = ", ".join(map(name_of, gpus))
    if chosen or any(one.device_type == "GPU" for one in devices):
        log.info("computing on %s; TensorFlow sees %s", short, there)
    else:
        log.warning(
            "COMPUTING ON THE CPU (%s), although TensorFlow sees %s: give device= or devices=, or "
            "set CUDA_VISIBLE_DEVICES=-1 where that is meant",
            short,
            there,
        )
