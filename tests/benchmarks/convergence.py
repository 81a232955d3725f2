"""What narrower gradients and local steps do to training: final loss and accuracy of each.

    python -m tests.benchmarks.convergence                     # a few minutes on two cores
    python -m tests.benchmarks.convergence --epochs 2 --seeds 1

Handwritten digits, two replicas on logical CPUs (to the replicas' arithmetic it makes no difference
where they are), the same first weights and the same order of the images for every option of a seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

import tfdist
from tests.benchmarks import machine
from tfdist.examples import data, digits

NAME = "convergence"
BATCH = 64
LEARNING_RATE = 0.05
MOMENTUM = 0.9

OPTIONS: dict[str, dict[str, Any]] = {
    "float32 gradients": {},
    "bfloat16": {"gradient_dtype": "bfloat16"},
    "bfloat16, error feedback": {"gradient_dtype": "bfloat16", "error_feedback": True},
    "float16": {"gradient_dtype": "float16"},
    "float16, error feedback": {"gradient_dtype": "float16", "error_feedback": True},
    "local_steps=4": {"local_steps": 4},
    "local_steps=16": {"local_steps": 16},
    "local_steps=4, DiLoCo's outer step": {
        "local_steps": 4,
        "outer_learning_rate": 0.7,
        "outer_momentum": 0.9,
    },
    "local_steps=16, DiLoCo's outer step": {
        "local_steps": 16,
        "outer_learning_rate": 0.7,
        "outer_momentum": 0.9,
    },
}
"""What `plug` is given; the first is what the others are compared with (and `local_steps=1`)."""


def build_mlp() -> keras.Model:
    """Two hidden layers of 128."""
    hidden = [layers.Dense(128, activation="relu") for _ in range(2)]
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Flatten(),
            *hidden,
            layers.Dense(10, activation="softmax"),
        ]
    )


MODELS = {"digits CNN": digits.build_model, "mlp": build_mlp}


def train(
    strategy: Any, model_name: str, options: dict[str, Any], *, epochs: int, seed: int
) -> dict[str, float]:
    """Trains once; returns the last epoch's training loss, and test loss and accuracy."""
    (images, labels), (test_images, test_labels) = data.digits()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = MODELS[model_name]()
        model.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    tfdist.plug(model, **options)
    history = model.fit(images, labels, BATCH, epochs, verbose=0).history
    loss, accuracy = model.evaluate(test_images, test_labels, BATCH, verbose=0)
    return {"loss": history["loss"][-1], "test_loss": loss, "test_accuracy": accuracy}


def main() -> None:
    """Trains every model with every option, and writes JSON and Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    flags = parser.parse_args()
    strategy = tfdist.strategy("mirrored", logical_devices=2)
    output: Path = flags.output
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": machine.describe(), "epochs": flags.epochs, "runs": []}
    for model in MODELS:
        for option, keywords in OPTIONS.items():
            for seed in range(flags.seeds):
                began = time.perf_counter()
                ended = train(strategy, model, keywords, epochs=flags.epochs, seed=seed)
                found["runs"].append({"model": model, "option": option, "seed": seed, **ended})
                print(f"{model}, {option}, seed {seed}: {ended} in", end=" ")
                print(f"{time.perf_counter() - began:.1f} s", flush=True)
        # After every model: a run can be interrupted.
        (output / f"{NAME}.json").write_text(json.dumps(found, indent=1) + "\n")
        (output / f"{NAME}.md").write_text(markdown(found))
    print((output / f"{NAME}.md").read_text())


def markdown(found: dict[str, Any]) -> str:
    """Returns the report: medians over the seeds, and the smallest and largest in brackets."""
    how = (
        f"Handwritten digits, {found['epochs']} epochs of batches of {BATCH} (SGD, rate "
        f"{LEARNING_RATE:g}, momentum {MOMENTUM:g}) on two replicas. The same first weights and "
        "order of the images for every option of a seed; medians over the seeds, and in brackets "
        "the smallest and the largest. Measured by `python -m tests.benchmarks.convergence`."
    )
    parts = ["# Convergence", how]
    for model in dict.fromkeys(run["model"] for run in found["runs"]):
        lines = [f"| {model} | training loss | test loss | test accuracy |", "|---|---:|---:|---:|"]
        for option in OPTIONS:
            runs = [r for r in found["runs"] if (r["model"], r["option"]) == (model, option)]
            if runs:
                cells = [
                    _spread([run[name] for run in runs], digits_)
                    for name, digits_ in (("loss", 5), ("test_loss", 4), ("test_accuracy", 4))
                ]
                lines.append(f"| {option} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _spread(values: Sequence[float], places: int) -> str:
    median = f"{statistics.median(values):.{places}f}"
    return f"{median} ({min(values):.{places}f} to {max(values):.{places}f})"


if __name__ == "__main__":
    main()
