"""What each worker of Ray Train runs here: a small model whose dropout shows every difference.

Run as a script, it is the job of the test: `python loop.py FOLDER [undisturbed|killed|smaller]`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

BATCH, EPOCHS, ROWS = 32, 3, 320


def train(config: dict[str, Any]) -> None:
    """Trains; with `kill`, the last worker kills itself once, in the middle of the second epoch."""
    import keras
    import numpy as np
    from ray import train as ray_train

    import tfdist

    rank = ray_train.get_context().get_world_rank()
    size = ray_train.get_context().get_world_size()
    folder, killed = Path(config["folder"]), Path(config["folder"], "killed")

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            here = self.epoch == 1 and batch == 4 and rank == size - 1
            if config["kill"] and here and not killed.exists():
                time.sleep(3)  # Ray hears of what was reported
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    keras.utils.set_random_seed(1)
    with tfdist.strategy().scope():
        layers = keras.layers
        model = keras.Sequential([layers.Dense(16, "relu"), layers.Dropout(0.2), layers.Dense(1)])
        model.compile("adam", "mse")
    tfdist.plug(model, virtual_replicas=2)
    x = np.random.default_rng(0).normal(size=(ROWS, 8)).astype("float32")
    # A folder that does not outlive the worker: what goes on comes from Ray.
    keep = tfdist.callbacks.Checkpoint(tempfile.mkdtemp(dir=folder), every_steps=3)
    report = tfdist.callbacks.RayReport(keep)
    history = model.fit(
        x,
        x.sum(1, keepdims=True),
        batch_size=BATCH,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[keep, report, Kill()],
    )
    if rank == 0:
        weights = [weight.numpy().tobytes().hex() for weight in model.weights]
        result = {"weights": weights, "history": history.history, "size": size}
        (folder / "result.json").write_text(json.dumps(result))


def main(folder: Path, what: str) -> None:
    """Runs the job on a cluster of two nodes, one of which is lost in `smaller`."""
    import ray
    from ray.cluster_utils import Cluster
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address)

    def lose_a_node() -> None:
        while not (folder / "killed").exists():
            time.sleep(0.1)
        cluster.remove_node(nodes[1], allow_graceful=False)

    if what == "smaller":
        threading.Thread(target=lose_a_node, daemon=True).start()
    trainer = TensorflowTrainer(
        train,
        train_loop_config={"folder": str(folder), "kill": what != "undisturbed"},
        scaling_config=ScalingConfig(num_workers=(1, 2) if what == "smaller" else 2),
        run_config=RunConfig(
            storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=2)
        ),
    )
    result = trainer.fit()
    told = {"metrics": result.metrics, "files": os.listdir(result.checkpoint.path)}
    (folder / "ray.json").write_text(json.dumps(told))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
