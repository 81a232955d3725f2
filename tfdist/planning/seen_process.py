"""What a probe has seen of one worker: its memory, and what its speed depends on. Pure."""

from __future__ import annotations

import dataclasses
import json

__all__ = ["LayerSize", "SeenProcess", "TableSize"]


@dataclasses.dataclass(frozen=True)
class LayerSize:
    """One layer, in the order in which a pipeline cuts.

    Attributes:
        name: the layer's.
        stage: of two, from 0.
        weights: bytes of its variables.
        gradients: bytes of those that are trained.
        outputs: bytes that it gives for one example.
        crossing: bytes of one example that go on behind it, where a pipeline cuts there.
        operations: estimated, of one example, forward and backward.
    """

    name: str
    stage: int
    weights: int
    gradients: int
    outputs: int
    crossing: int
    operations: float


@dataclasses.dataclass(frozen=True)
class TableSize:
    """An embedding that is large enough for parameter servers to shard it.

    Attributes:
        name: the layer's.
        weights: bytes of the whole table.
        gradients: as many where it is trained, 0 where it is not.
        height: how many rows the table has.
        ids: how many of them one example names.
    """

    name: str
    weights: int
    gradients: int
    height: int
    ids: int

    def rows_of(self, examples: float) -> int:
        """How many rows so many examples name at most."""
        return round(min(self.height, self.ids * examples))

    def bytes_of(self, examples: float) -> float:
        """Bytes of these rows."""
        return self.rows_of(examples) * self.weights / self.height


@dataclasses.dataclass(frozen=True)
class SeenProcess:
    """One worker: bytes of memory, and parts of a step that its seconds do not tell apart.

    Attributes:
        worker: its number.
        place: where it was measured, "host" or "gpu".
        program_at_start: the process's peak before the first step: interpreter, libraries, data and
            weights; 0 where a GPU was measured.
        peak: the most at any time until the end of the measurement.
        rows: of a step that this worker trains on.
        activations_a_row: what one row more takes at the peak of a step.
        weights: of the model's variables.
        gradients: of those that are trained.
        slots: of its optimizers' variables.
        layers: of the model; none where a pipeline cannot cut it.
        no_pipeline: why it cannot; "" where it can.
        no_servers: why parameter servers cannot train it; "" where they can.
        no_shards: why workers cannot keep a share of its optimizers each; "" where they can.
        tables: large embeddings.
        row_bytes: of one example as `fit` was given it.
        growing: which part of a step's computing grows with its rows, from 0 to 1.
        update: which part the optimizers' update of all weights is, from 0 to 1.
        dense_update: which part that of all weights but those of `tables` is, from 0 to 1.
    """

    worker: int
    place: str
    program_at_start: int
    peak: int
    rows: int
    activations_a_row: float
    weights: int
    gradients: int
    slots: int
    layers: list[LayerSize]
    no_pipeline: str
    no_servers: str
    no_shards: str
    tables: list[TableSize]
    row_bytes: float
    growing: float
    update: float
    dense_update: float

    def __post_init__(self) -> None:
        if self.place not in ("host", "gpu"):
            raise ValueError(f"place={self.place!r}: give 'host' or 'gpu'")
        if self.rows < 1 or min(self.peak, self.weights, self.activations_a_row) < 0:
            raise ValueError(f"rows={self.rows}, peak={self.peak}: give rows and bytes")
        parts = self.growing, self.update, self.dense_update
        if min(*parts, self.row_bytes) < 0 or max(parts) > 1:
            raise ValueError(
                f"{parts}, row_bytes={self.row_bytes}: parts are 0 to 1, bytes not below 0"
            )

    @property
    def activations(self) -> int:
        """Bytes of a step's activations."""
        return round(self.activations_a_row * self.rows)

    @property
    def program(self) -> int:
        """What is left of the peak: interpreter, libraries, data, programs, buffers."""
        rest = self.peak - self.weights - self.gradients - self.slots - self.activations
        return max(0, rest)

    @property
    def fetched(self) -> float:
        """Bytes that such a worker fetches from parameter servers for a step."""
        whole = sum(table.weights for table in self.tables)
        return self.weights - whole + sum(table.bytes_of(self.rows) for table in self.tables)

    @property
    def pushed(self) -> float:
        """Bytes of gradients that it sends them."""
        trained = [table for table in self.tables if table.gradients]
        whole = sum(table.gradients for table in trained)
        return self.gradients - whole + sum(table.bytes_of(self.rows) for table in trained)

    @classmethod
    def from_json(cls, text: str) -> SeenProcess:
        """Reads what a probe wrote."""
        content = json.loads(text)
        content["layers"] = [LayerSize(**layer) for layer in content["layers"]]
        content["tables"] = [TableSize(**table) for table in content["tables"]]
        return cls(**content)
