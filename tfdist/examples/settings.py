"""The flags that the examples share, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from absl import app, flags

import tfdist

__all__ = ["callbacks", "run", "strategy"]

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # `--help` shows them as those of the script


def run(main: Callable[[], None], *, epochs: int, batch_size: int, learning_rate: float) -> None:
    """Defines the flags, reads the command line and calls `main`; the process ends with it.

    Args:
        main: what the script does.
        epochs: how many, where `--epochs` does not say.
        batch_size: examples a step, where `--batch_size` does not say.
        learning_rate: the optimizer's, where `--learning_rate` does not say.
    """
    flags.DEFINE_enum(
        "strategy",
        "auto",
        ["auto", "mirrored", "pipeline"],
        "How to compute: as the cluster says, on all GPUs, or in stages of some layers each.",
    )
    flags.DEFINE_integer(
        "logical_devices", None, "Parts of this machine's GPU or CPU, each a device.", lower_bound=2
    )
    flags.DEFINE_integer("epochs", epochs, "Passes over the training data.", lower_bound=0)
    flags.DEFINE_integer("batch_size", batch_size, "Examples a step, all together.", lower_bound=1)
    flags.DEFINE_float("learning_rate", learning_rate, "The optimizer's.", lower_bound=0)
    flags.DEFINE_integer("seed", 1, "Fixes the first weights and the order of the examples.")
    flags.DEFINE_string(
        "run_dir", None, "Folder of checkpoints: a job started again resumes there."
    )
    flags.DEFINE_string("save", None, "File for the trained model: model.keras")

    def without_arguments(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected argument {argv[1]!r}: options begin with --")
        main()

    app.run(without_arguments)


def strategy() -> Any:
    """Returns the strategy that the flags and the cluster ask for; servers go no further."""
    devices = {"logical_devices": FLAGS.logical_devices} if FLAGS.logical_devices else {}
    chosen = tfdist.strategy(FLAGS.strategy, **devices)
    keras.utils.set_random_seed(FLAGS.seed)
    return chosen


def callbacks() -> list[keras.callbacks.Callback]:
    """Returns the callbacks that the flags ask for."""
    return [tfdist.callbacks.Checkpoint(FLAGS.run_dir)] if FLAGS.run_dir else []
