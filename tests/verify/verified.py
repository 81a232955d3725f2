"""Many programs, verified one after the other in the tasks of one job."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tfdist.diagnose.verify.orders import Asked
from tfdist.diagnose.verify.verdict import Verdict
from tfdist.diagnose.verify.verify_command import verify

STEPS = 6
AT_ONCE = 12
"""Programs of one job: where one fails altogether, the others' verdicts are there."""

SOUND = (
    "unseeded",
    "convolutional",
    "augmented",
    "residual",
    "recurrent",
    "gated",
    "language model",
    "translation",
    "vision transformer",
    "autoencoder",
    "segmentation",
    "factorization",
    "structured",
    "graph",
    "siamese",
    "transfer",
    "scheduled",
    "plateau",
    "accumulated",
    "averaged",
    "generator",
    "mixed precision",
    "double precision",
    "on batches",
    "regularized",
    "eager",
    "several steps a call",
)
"""Of `sound_programs`; its names are given here, since it imports TensorFlow."""

EXAMPLES = ("digits", "sunspots", "spam", "denoise", "recommender")
"""Of `tfdist.examples`."""

SOUND_KNOWN = (
    "VAE",
    "DCGAN",
    "WGAN-GP",
    "VQ-VAE",
    "SimSiam with a gather",
    "retrieval with in-batch negatives",
    "MoCo's queue",
    "mixup in the step",
    "distillation",
    "EMA teacher",
    "clipping by hand",
    "gradient noise",
    "accumulation by hand",
    "gradient surgery",
    "a loss of every word",
    "MAML",
    "a penalty on weights' gradients",
    "sharpness-aware minimization",
    "several optimizers",
    "nested logs",
    "own compile",
    "own fit",
    "frozen, then unfrozen",
    "stateful metric",
    "a metric that sums a loss",
    "several outputs",
    "add_loss",
    "dropout and noise",
    "dropout of the global seed",
    "a moving mean",
)
"""Of the zoo, all that is expected to be equal."""


def asked_of(names: Sequence[str]) -> dict[str, Asked]:
    """What is asked of each program, by name."""
    found = {}
    for name in names:
        command: tuple[str, ...]
        if name in SOUND:
            command = ("-m", "tests.verify.sound_programs", name)
        elif name in EXAMPLES:
            command = ("-m", f"tfdist.examples.{name}")
        elif name in SOUND_KNOWN:
            command = ("-m", "tests.verify.zoo_program", name)
        else:
            command = ("-m", "tests.verify.seeded_fault", name)
        found[name] = Asked(command, steps=STEPS)
    return found


def verify_all(
    asked: Mapping[str, Asked], folder: Path, say: Callable[[str], None] = lambda _: None
) -> dict[str, Verdict]:
    """Verifies programs; returns the verdicts by name.

    Args:
        asked: of each program.
        folder: where verdicts are kept; those that are there are not sought again.
        say: is told of each verdict.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / (re.sub(r"\W+", "-", name) + ".json") for name in asked}
    left = [name for name in asked if not paths[name].exists()]
    while left:
        now, left = left[:AT_ONCE], left[AT_ONCE:]
        for name, verdict in zip(now, verify([asked[name] for name in now]), strict=True):
            paths[name].write_text(verdict.to_json())
            say(f"{name}: {verdict.text()}")
    return {name: Verdict.from_json(path.read_text()) for name, path in paths.items()}


def is_found(name: str, verdict: Verdict) -> bool:
    """Whether the cause that was seeded is the first that was named."""
    from tests.verify.seeded_fault import FAULTS

    return [cause.kind for cause in verdict.causes][:1] == [FAULTS[name].cause]
