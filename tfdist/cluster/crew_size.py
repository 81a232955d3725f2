"""With how many workers a job may run."""

from __future__ import annotations

from dataclasses import dataclass

from tfdist.errors import ClusterError

__all__ = ["DEFAULT_SETTLE", "Size"]

DEFAULT_SETTLE = 10.0
"""Seconds in which workers that come are waited for, and after which a lost one comes back."""


@dataclass(frozen=True)
class Size:
    """The fewest and the most workers of a job, as in `--workers 1:4`.

    Attributes:
        least: It starts, and goes on, with no fewer.
        most: And with no more.

    Raises:
        ClusterError: That is no range.
    """

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ClusterError(
                f"workers from {self.least} to {self.most}; give the fewest, 1 or more, and then "
                "the most, as in 1:4"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether there is but one size."""
        return self.least == self.most
