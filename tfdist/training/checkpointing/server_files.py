"""Whether parameter servers write checkpoints themselves, or the chief does it for them."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_layers
from tfdist.errors import CheckpointError
from tfdist.training.checkpointing.replacing import SCRATCH
from tfdist.training.checkpointing.server_copies import on_servers

__all__ = ["SHARDED_FROM", "blind_servers", "servers_write"]

SHARDED_FROM = 256 << 20
"""From so many bytes on the servers on, they write, if the user says nothing else."""


def servers_write(
    model: keras.Model, variables: Mapping[str, Any], directory: Path, asked: bool | None
) -> bool:
    """Decides who writes the checkpoints of a job.

    A small model is written by the chief, as an ordinary `.keras` file that plain Keras opens and
    for which no server needs to see the directory; what it takes of the chief's memory is small,
    too.

    Args:
        model: a built model.
        variables: its weights and its optimizers' variables, by name.
        directory: of the checkpoints; it is there.
        asked: what the user says: True, False or None (by the size).

    Returns:
        Whether each server writes what it keeps. Never where there are none.

    Raises:
        CheckpointError: the user asks for what cannot be.
    """
    sizes = on_servers(variables.values())
    size = sum(sizes.values())
    if not sizes or asked is False or (asked is None and size < SHARDED_FROM):
        return False
    needs = f"the chief writes the checkpoints, and needs {size / 2**20:,.0f} MiB of memory for it"
    if layer := _with_files_of_its_own(model):
        reason = (
            f"the layer {layer!r} has a save_own_variables of its own, which servers cannot call"
        )
        cure = "leave it out of the layer, and keep its state in weights"
    elif blind := blind_servers(directory, sorted(sizes)):
        reason = f"{directory} is not there on {', '.join(blind)}"
        cure = "give a directory on a file system that the chief and all ps tasks share"
    else:
        return True
    if asked:
        raise CheckpointError(f"sharded=True, but {reason}: {cure}, or sharded=False")
    log.warning("%s: %s; %s, and each server writes what it keeps", reason, needs, cure)
    return False


def blind_servers(directory: Path, places: Iterable[str]) -> list[str]:
    """Asks servers to read a file that this process writes.

    Args:
        directory: where; it is there.
        places: devices of the servers.

    Returns:
        Those that do not see it, such as "ps:1"; all of them where nothing can be written there.
    """
    there = directory.absolute()
    text = secrets.token_hex(8)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=there))
    except OSError:
        return [_task(place) for place in places]
    try:
        probe = scratch / "probe"
        probe.write_text(text)
        return [_task(place) for place in places if not _reads(place, probe, text)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _reads(place: str, probe: Path, text: str) -> bool:
    try:
        with tf.device(place):
            return bool(tf.io.read_file(str(probe)).numpy().decode() == text)
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError):
        raise  # it is lost, and that is another matter
    except (tf.errors.OpError, UnicodeDecodeError):
        return False


def _task(place: str) -> str:
    device = tf.DeviceSpec.from_string(place)
    return f"{device.job}:{device.task}"


def _with_files_of_its_own(model: keras.Model) -> str:
    """The name of a layer whose class says what is in files; Keras' own classes say no more."""
    for layer in keras_layers.all_layers(model):
        for kind in type(layer).__mro__:
            if "save_own_variables" in vars(kind):
                if not kind.__module__.startswith(("keras.", "tfdist.")):
                    return str(layer.name)
                break
    return ""
