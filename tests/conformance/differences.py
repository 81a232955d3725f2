"""The committed list of differences from Keras' own tests, each with its reason."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LIST", "Difference", "read"]

LIST = Path(__file__).parent / "differences.json"

_KEYS = {"tests", "on", "says", "because"}


@dataclass(frozen=True)
class Difference:
    """Tests that fail with plugged models, and why they may.

    Args:
        tests: patterns of their ids, as "trainers/trainer_test.py::TestTrainer::test_fit_*".
        on: the strategies that they fail on.
        says: a part of the error with which they fail: the same test failing with another error is
            not explained.
        because: the reason, in a sentence.
    """

    tests: tuple[str, ...]
    on: tuple[str, ...]
    says: str
    because: str

    def explains(self, test: str, strategy: str, why: str) -> bool:
        """Whether this is why a test failed on a strategy, with this error."""
        here = strategy in self.on and self.says in why
        return here and any(fnmatch.fnmatchcase(test, pattern) for pattern in self.tests)


def read(path: Path, strategies: Sequence[str]) -> list[Difference]:
    """Returns the differences of a file.

    Raises:
        ValueError: an entry lacks something, has something else, or names an unknown strategy.
    """
    return [_difference(entry, strategies) for entry in json.loads(path.read_text())]


def _difference(entry: Any, strategies: Sequence[str]) -> Difference:
    if set(entry) != _KEYS:
        raise ValueError(f"a difference has {', '.join(sorted(_KEYS))}, not {entry}")
    if not set(entry["on"]) <= set(strategies):
        raise ValueError(f"on is some of {', '.join(strategies)}, not {entry['on']}")
    if not all(entry.values()):
        raise ValueError(f"a difference with something empty: {entry}")
    return Difference(tuple(entry["tests"]), tuple(entry["on"]), entry["says"], entry["because"])
