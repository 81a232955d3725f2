"""What a probe has seen of one worker's memory. Pure."""

from __future__ import annotations

import dataclasses
import json

__all__ = ["LayerSize", "SeenProcess"]


@dataclasses.dataclass(frozen=True)
class LayerSize:
    """One layer, in the order in which a pipeline cuts.

    Attributes:
        name: the layer's.
        stage: of two, from 0.
        weights: bytes of its variables.
        gradients: bytes of those that are trained.
        outputs: bytes that it gives for one example.
    """

    name: str
    stage: int
    weights: int
    gradients: int
    outputs: int


@dataclasses.dataclass(frozen=True)
class SeenProcess:
    """Memory of one worker, in bytes.

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

    def __post_init__(self) -> None:
        if self.place not in ("host", "gpu"):
            raise ValueError(f"place={self.place!r}: give 'host' or 'gpu'")
        if self.rows < 1 or min(self.peak, self.weights, self.activations_a_row) < 0:
            raise ValueError(f"rows={self.rows}, peak={self.peak}: give rows and bytes")

    @property
    def activations(self) -> int:
        """Bytes of a step's activations."""
        return round(self.activations_a_row * self.rows)

    @property
    def program(self) -> int:
        """What is left of the peak: interpreter, libraries, data, programs, buffers."""
        rest = self.peak - self.weights - self.gradients - self.slots - self.activations
        return max(0, rest)

    @classmethod
    def from_json(cls, text: str) -> SeenProcess:
        """Reads what a probe wrote."""
        content = json.loads(text)
        content["layers"] = [LayerSize(**layer) for layer in content["layers"]]
        return cls(**content)
