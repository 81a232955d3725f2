"""PyTorch's DistributedDataParallel over gloo, in the plain loop of its tutorials."""

from __future__ import annotations

import importlib
import itertools
import json
import os
from typing import Any

from tests.benchmarks.models import (
    BLOCKS,
    CLASSES,
    HEADS,
    HIDDEN,
    LEARNING_RATE,
    REPLICA_BATCH,
    WIDTH,
    Model,
    arrays,
)
from tests.benchmarks.turns import Assignment, Turns, loop_in_turns

__all__ = ["run"]

torch: Any = importlib.import_module("torch")  # an optional extra: its types may not be there
distributed: Any = importlib.import_module("torch.distributed")
parallel: Any = importlib.import_module("torch.nn.parallel")

_Module: Any = torch.nn.Module


def run(assignment: Assignment, turns: Turns) -> None:
    """Takes this worker's turns."""
    config = json.loads(os.environ["TF_CONFIG"])
    rank, model = config["task"]["index"], assignment.model
    distributed.init_process_group(
        "gloo",
        init_method=f"tcp://{config['cluster']['worker'][0]}",
        rank=rank,
        world_size=assignment.workers,
    )
    turns.stage("strategy")
    network = parallel.DistributedDataParallel(_network(model))
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    loss = torch.nn.CrossEntropyLoss()
    batches = _batches(model, rank, assignment.workers)
    taken = 0

    def loop(steps: int) -> None:
        nonlocal taken
        for _ in range(steps):
            x, y = batches[taken % len(batches)]
            taken += 1
            optimizer.zero_grad()
            loss(network(x), y).backward()
            optimizer.step()

    turns.stage("build")
    loop_in_turns(turns, assignment, loop)
    distributed.destroy_process_group()


def _batches(model: Model, rank: int, workers: int) -> list[tuple[Any, Any]]:
    """This worker's rows of the global batches."""
    x, y = arrays(model, REPLICA_BATCH * workers)
    if model.name == "cnn":
        x = x.transpose(0, 3, 1, 2)  # torch has the channels before the rows
    starts = range(rank * REPLICA_BATCH, len(x), workers * REPLICA_BATCH)
    parts = [slice(start, start + REPLICA_BATCH) for start in starts]
    return [(torch.from_numpy(x[part].copy()), torch.from_numpy(y[part])) for part in parts]


def _network(model: Model) -> Any:
    nn = torch.nn
    if model.name == "tiny":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, CLASSES))
    if model.name in HIDDEN:
        sizes = [784, *HIDDEN[model.name]]
        hidden = [
            layer
            for before, units in itertools.pairwise(sizes)
            for layer in (nn.Linear(before, units), nn.ReLU())
        ]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], CLASSES))
    if model.name == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(1600, 128),
            nn.ReLU(),
            nn.Linear(128, CLASSES),
        )

    if model.name == "transformer":
        return _Transformer()
    assert model.name == "lstm"
    return _Recurrent()


class _Recurrent(_Module):
    """An LSTM whose last output is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(28, 64, batch_first=True)
        self.head = torch.nn.Linear(64, CLASSES)

    def forward(self, x: Any) -> Any:
        outputs, _ = self.lstm(x)
        return self.head(outputs[:, -1])


class _Transformer(_Module):
    """Blocks whose outputs' mean is classified."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.widen = nn.Linear(64, WIDTH)
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
                )
                for _ in range(BLOCKS)
            )
        )
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks(self.widen(x)).mean(1))
