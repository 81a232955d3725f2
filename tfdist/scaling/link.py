"""What a message costs between two tasks. Pure.

A message of n bytes takes latency + n / bandwidth seconds: the alpha-beta model (Hockney, "The
communication challenge for MPP: Intel Paragon and Meiko CS-2", Parallel Computing 20(3), 1994).
"""

from __future__ import annotations

import dataclasses

from tfdist.given_numbers import is_number

__all__ = ["Link"]


@dataclasses.dataclass(frozen=True)
class Link:
    """A link that carries its bandwidth both ways at the same time.

    Attributes:
        latency: seconds of a message of no bytes, at least 0.
        bandwidth: bytes a second, above 0.

    Raises:
        ValueError: one is no such number.
    """

    latency: float
    bandwidth: float

    def __post_init__(self) -> None:
        if self.latency != 0 and not is_number(self.latency, above=0):
            raise ValueError(f"latency={self.latency!r}: give seconds, at least 0")
        if not is_number(self.bandwidth, above=0):
            raise ValueError(f"bandwidth={self.bandwidth!r}: give bytes a second, above 0")

    def seconds(self, messages: float, size: float) -> float:
        """Seconds of so many messages one after the other, of `size` bytes together."""
        return messages * self.latency + size / self.bandwidth

    def slower(self, other: Link) -> Link:
        """The worse of both, in latency and in bandwidth each."""
        return Link(max(self.latency, other.latency), min(self.bandwidth, other.bandwidth))
