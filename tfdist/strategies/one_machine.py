"""Strategies of one process: one device, and mirrored over several."""

from __future__ import annotations

import logging

import tensorflow as tf

from tfdist.errors import StrategyError
from tfdist.strategies import logical_devices
from tfdist.strategies.strategy_options import Options

__all__ = ["make_mirrored", "make_one_device", "quiet_tensorflow", "set_threads"]


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
    device = options.device
    if device is None:
        kind = logical_devices.in_use(options)
        device = f"{kind}:0" if tf.config.list_logical_devices(kind) else "CPU:0"
    _check_devices([device])
    return tf.distribute.OneDeviceStrategy(_full_name(device))


def make_mirrored(options: Options) -> tf.distribute.Strategy:
    """Returns a `tf.distribute.MirroredStrategy` over the given devices, all GPUs or all CPUs."""
    quiet_tensorflow()
    devices = list(options.devices or ())
    if not devices:
        kind = logical_devices.in_use(options)
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
