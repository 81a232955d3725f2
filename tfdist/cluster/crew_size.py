"""With how many workers, or parameter servers, a job may run."""

from __future__ import annotations

from dataclasses import dataclass

from tfdist.errors import ClusterError

__all__ = ["DEFAULT_SETTLE", "Size", "most_of", "nouns_of"]

DEFAULT_SETTLE = 10.0
"""Seconds in which workers that come are waited for, and after which a lost one comes back."""


def nouns_of(job: str) -> str:
    """What several tasks of a job are called."""
    return {"worker": "workers", "chief": "chiefs"}.get(job, job)


@dataclass(frozen=True)
class Size:
    """The fewest and the most tasks of a kind, as in `--workers 1:4`.

    Attributes:
        least: A job starts, and goes on, with no fewer.
        most: And with no more.
        nouns: What they are, in messages.

    Raises:
        ClusterError: That is no range.
    """

    least: int
    most: int
    nouns: str = "workers"

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ClusterError(
                f"{self.nouns} from {self.least} to {self.most}; give the fewest, 1 or more, and "
                "then the most, as in 1:4"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether there is but one size."""
        return self.least == self.most


def most_of(count: int | Size | None) -> int:
    """How many tasks there are at most, by an option.

    Args:
        count: What it was given: a number, a range, or nothing, which is one.
    """
    if count is None:
        return 1
    return count.most if isinstance(count, Size) else count
