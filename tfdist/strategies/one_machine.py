"""Strategies of one process: one device, and mirrored over several."""

from __future__ import annotations

import logging

import tensorflow as tf

from tfdist.errors import StrategyError
from tfdist.strategies.strategy_options import Options

__all__ = ["cut_the_cpu", "make_mirrored", "make_one_device", "quiet_tensorflow", "set_threads"]


def set_threads(options: Options) -> None:
    """Sets the thread counts of this process.

    Raises:
        StrategyError: TensorFlow has started already, so that they can no longer be set.
    """
    for name in ("intra_op", "inter_op"):
        count = getattr(options, f"{name}_threads")
        current = getattr(tf.config.threading, f"get_{name}_parallelism_threads")
        if count is None or current() == count:
            continue
        try:
            getattr(tf.config.threading, f"set_{name}_parallelism_threads")(count)
        except RuntimeError as error:
            raise StrategyError(
                "the thread counts can be set only before TensorFlow's first operation: make the "
                "strategy at the top of the program"
            ) from error


def quiet_tensorflow() -> None:
    """Has TensorFlow's Python log leave out information, unless the program has set its level.

    It would tell of every collective that it builds: how things happen, not what happens.
    """
    if tf.get_logger().level <= logging.INFO:
        tf.get_logger().setLevel(logging.WARNING)


def make_one_device(options: Options) -> tf.distribute.Strategy:
    """Returns a `tf.distribute.OneDeviceStrategy` on the given device, the first GPU or the CPU."""
    cut_the_cpu(options.logical_devices)
    device = options.device
    if device is None:
        device = "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"
    _check_devices([device])
    return tf.distribute.OneDeviceStrategy(_full_name(device))


def make_mirrored(options: Options) -> tf.distribute.Strategy:
    """Returns a `tf.distribute.MirroredStrategy` over the given devices, all GPUs or all CPUs."""
    quiet_tensorflow()
    cut_the_cpu(options.logical_devices)
    devices = list(options.devices or ())
    if not devices:
        kind = "CPU" if options.logical_devices else "GPU"
        there = tf.config.list_logical_devices(kind) or tf.config.list_logical_devices("CPU")
        devices = [":".join(device.name.rsplit(":", 2)[-2:]) for device in there]
    _check_devices(devices)
    return tf.distribute.MirroredStrategy([_full_name(device) for device in devices])


def _full_name(device: str) -> str:
    return device if device.startswith("/") else f"/{device}"


def _check_devices(devices: list[str]) -> None:
    there = [
        ":".join(device.name.rsplit(":", 2)[-2:]) for device in tf.config.list_logical_devices()
    ]
    short = [":".join(device.upper().strip("/").rsplit(":", 2)[-2:]) for device in devices]
    for device in short:
        if device not in there:
            raise StrategyError(f"no device {device!r} on this machine; it has {', '.join(there)}")
    if len(set(short)) < len(short):
        raise StrategyError(f"a device is given twice: {', '.join(devices)}")


def cut_the_cpu(count: int | None) -> None:
    """Cuts the CPU into `count` logical devices, unless that has been done.

    Raises:
        StrategyError: TensorFlow has started with another number of them.
    """
    if count is None:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    cut = tf.config.get_logical_device_configuration(cpu)
    if cut is not None and len(cut) == count:
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
        tf.config.list_logical_devices()  # TensorFlow says here what it could not do
    except (RuntimeError, ValueError) as error:
        there = len(tf.config.list_logical_devices("CPU"))
        raise StrategyError(
            f"logical_devices={count}, but TensorFlow has started with {there} CPU device(s): make "
            "the strategy before TensorFlow's first operation (in a notebook: restart the kernel)"
        ) from error
