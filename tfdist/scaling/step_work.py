"""What one worker has to do in a step. Pure."""

from __future__ import annotations

import dataclasses

__all__ = ["StepWork"]


@dataclasses.dataclass(frozen=True)
class StepWork:
    """A step of one worker with its own batch, without any exchange.

    Attributes:
        compute: seconds of forward and backward.
        size: bytes of the gradients, and of the weights.
        update: seconds in which the optimizer updates all weights.
        other: seconds of the input, by itself, and of Python.

    Raises:
        ValueError: one is below 0.
    """

    compute: float
    size: float
    update: float = 0.0
    other: float = 0.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value < float("inf"):
                unit = "bytes" if name == "size" else "seconds"
                raise ValueError(f"{name}={value!r}: give {unit}, at least 0")

    @property
    def alone(self) -> float:
        """Seconds of a step of a worker that has nobody to wait for."""
        return self.compute + self.update + self.other
