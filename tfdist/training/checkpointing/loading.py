"""Loads a checkpoint of either kind into a model whose parts are built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfdist.compat import keras_layers, keras_trainer
from tfdist.training.checkpointing.server_copies import on_servers
from tfdist.training.checkpointing.server_files import blind_servers
from tfdist.training.checkpointing.server_reading import ServerReading
from tfdist.training.checkpointing.sharded_folder import is_sharded
from tfdist.training.model_parts import optimizers_of

__all__ = ["in_short", "load_variables"]


def load_variables(
    path: Path, model: keras.Model, variables: Mapping[str, Any], whole: bool = True
) -> str | None:
    """Sets a model's weights, and its optimizers' variables, to those of a checkpoint.

    Args:
        path: a `.keras` file, or the folder of a sharded checkpoint, that looks whole.
        model: a built model.
        variables: its variables by name; of a `.keras` file Keras knows itself.
        whole: whether the variables are to be all that the checkpoint has.

    Returns:
        What is wrong with a sharded checkpoint's files, in a few words: then some variables are
        set, and some are not. None where all is well.

    Raises:
        CheckpointError, ValueError, OSError, KeyError, TypeError: it is of another model.
    """
    if not is_sharded(path):
        skipped = keras_trainer.load_weights(model, str(path))
        if skipped and any(optimizer.built for optimizer in optimizers_of(model)):
            raise ValueError(
                f"it was trained by another optimizer: compile with that one, or train on from the "
                f"weights alone by model.load_weights and resume=False; Keras says: {skipped}"
            )
        return None
    by_servers = not blind_servers(path.parent, on_servers(variables.values()))
    damage = ServerReading(path, by_servers).into(variables, whole)
    if damage is None:
        for layer in keras_layers.all_layers(model):
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()  # as when Keras loads it: it keeps more than its weights
    return damage


def in_short(error: Exception) -> str:
    """What Keras says of a file of another model, without the numbers and the list of objects."""
    text = str(error).partition("List of objects that could not be loaded")[0]
    text = re.sub(r", value=\[.*?\]>", ">", text, flags=re.DOTALL)
    return " ".join(text.split())
