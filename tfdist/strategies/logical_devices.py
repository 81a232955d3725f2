"""Cuts one device of this machine into several, to try replicas or stages anywhere."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

import tensorflow as tf

from tfdist import log, process
from tfdist.errors import StrategyError
from tfdist.machine.gpus import free_memory, gpus_here
from tfdist.strategies import own_gpus
from tfdist.strategies.strategy_options import Options

__all__ = ["Kind", "cut", "in_use"]

Kind: TypeAlias = Literal["CPU", "GPU"]

_SPARED = 0.9  # of what is free: CUDA itself and its libraries take some for each process


def in_use(options: Options) -> Kind:
    """Returns which kind of devices `logical_devices` cuts, or "GPU" where nothing is to be cut.

    It is the kind that the options name; else the GPU where there is one.
    """
    if options.logical_devices is None:
        return "GPU"
    named = [options.logical_kind, options.device, *(options.devices or ())]
    for name in filter(None, named):
        return "GPU" if "GPU" in name.upper() else "CPU"
    return "GPU" if own_gpus.visible() else "CPU"


def cut(options: Options) -> None:
    """Cuts the first device of a kind into as many as are asked for, unless that has been done.

    Other GPUs than the first are left out.

    Raises:
        StrategyError: there is no such device, its memory is not known, or TensorFlow has started
            with another number of them.
    """
    count = options.logical_count
    if count is None:
        return
    kind = in_use(options)
    gpus = own_gpus.visible()
    if kind == "GPU" and not gpus:
        raise StrategyError(
            f"logical_devices={options.logical_devices!r}, but TensorFlow sees no GPU: give "
            f'logical_devices={count}, or "CPU:{count}"'
        )
    device = gpus[0] if kind == "GPU" else tf.config.list_physical_devices("CPU")[0]
    before = tf.config.get_logical_device_configuration(device)
    if before is not None and len(before) == count:
        return
    memory = _memory_of_each(device, count) if kind == "GPU" else None
    try:
        if kind == "GPU":
            tf.config.set_visible_devices([device], "GPU")
        tf.config.set_logical_device_configuration(
            device, [tf.config.LogicalDeviceConfiguration(memory_limit=memory)] * count
        )
        tf.config.list_logical_devices()  # TensorFlow says here what it could not do
    except (RuntimeError, ValueError) as error:
        there = len(tf.config.list_logical_devices(kind))
        raise own_gpus.too_late(
            f"logical_devices={options.logical_devices!r} of {there} {kind} device(s)"
        ) from error
    if kind == "GPU":
        log.info("%s is cut into %d devices of %d MiB", own_gpus.name_of(device), count, memory)
    elif gpus:
        log.info("the CPU is cut into %d devices; the GPU is left alone", count)


def _memory_of_each(device: tf.config.PhysicalDevice, count: int) -> int:
    """MiB of each of so many parts of a GPU."""
    memory = process.gpu_memory()
    if memory is None:
        physical = tf.config.list_physical_devices("GPU")
        there = gpus_here(os.environ).gpus
        if len(there) == len(physical):
            free = free_memory(there[physical.index(device)])
            memory = None if free is None else int(free * _SPARED)
    if memory is None or memory < count:
        raise StrategyError(
            f"logical_devices={count} on a GPU of which nvidia-smi does not tell how much memory "
            f'is free: set TFDIST_GPU_MEMORY to the MiB to use, or give "CPU:{count}"'
        )
    return memory // count
