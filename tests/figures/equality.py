"""Plain Keras against 2 workers against 2 mirrored logical CPUs, on the digits CNN.

    python -m tests.figures.equality

Three epochs of SGD in float32 over 1,437 images in batches of 128: the last batch has 29, which two
replicas share as 14 and 15. Prints the largest relative difference in loss, and in the weights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

KINDS = ("plain", "workers", "mirrored")


def train(kind: str, folder: Path) -> None:
    """Trains in this process and writes what came out, as `folder/kind.json` and `.npz`."""
    import keras

    import tfdist
    from tfdist.examples import data, digits

    strategy = None
    if kind == "workers":
        strategy = tfdist.strategy()
    elif kind == "mirrored":
        strategy = tfdist.strategy("mirrored", logical_devices=2)
    (images, labels), (test_images, test_labels) = data.digits()
    keras.utils.set_random_seed(1)

    def make() -> keras.Model:
        model = digits.build_model()
        model.compile(
            optimizer=keras.optimizers.SGD(0.05),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model

    if strategy is None:
        model = make()
    else:
        with strategy.scope():
            model = make()
        tfdist.plug(model)
    history = model.fit(
        images,
        labels,
        batch_size=128,
        epochs=3,
        validation_data=(test_images, test_labels),
        verbose=0,
    ).history
    if tfdist.is_chief():
        (folder / f"{kind}.json").write_text(json.dumps(history))
        np.savez(folder / f"{kind}.npz", *model.get_weights())


def main() -> None:
    """Runs the three and prints the table."""
    folder = Path(tempfile.mkdtemp())
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    here = ["-m", "tests.figures.equality"]
    for kind in KINDS:
        launch = ["-m", "tfdist", "run", "--workers", "2"] if kind == "workers" else []
        command = [sys.executable, *launch, *here, kind, str(folder)]
        subprocess.run(
            command,
            check=True,
            env=environment,
            timeout=300,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    histories = {kind: json.loads((folder / f"{kind}.json").read_text()) for kind in KINDS}
    weights = {kind: np.load(folder / f"{kind}.npz") for kind in KINDS}
    print("| run | " + " | ".join(f"loss, epoch {i}" for i in (1, 2, 3)), end=" | ")
    print("largest relative difference in loss | in validation loss", end=" | ")
    print("largest difference of a weight |")
    print("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        own, plain = histories[kind], histories["plain"]
        differences = [
            max(abs(a / b - 1) for a, b in zip(own[name], plain[name], strict=True))
            for name in ("loss", "val_loss")
        ]
        weight = max(
            float(np.abs(weights[kind][name] - weights["plain"][name]).max())
            for name in weights["plain"].files
        )
        losses = " | ".join(f"{loss:.7f}" for loss in own["loss"])
        print(f"| {kind} | {losses} | {differences[0]:.1e} | {differences[1]:.1e} | {weight:.1e} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
