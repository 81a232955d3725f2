"""What is changed, by which tests it is held, and why a change that survives is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.mutation.changes import Change

__all__ = ["ROOMS", "Room"]

EXPLAINED = ROOT / "tests" / "mutation.md"


@dataclass(frozen=True)
class Room:
    """Files, and the fast tests that hold them.

    Attributes:
        patterns: the files, from the repository's root.
        tests: what pytest runs.
        preload: imported once, before the changes.
    """

    patterns: tuple[str, ...]
    tests: tuple[str, ...]
    preload: tuple[str, ...] = ()

    def files(self) -> list[Path]:
        """The files, from here."""
        return sorted(path for pattern in self.patterns for path in Path().glob(pattern))

    def explains(self, change: Change) -> bool:
        """Whether tests/mutation.md tells why a change is none."""
        return f"`{change.before}` -> `{change.after}`" in EXPLAINED.read_text()


_PICTURES = ("numpy", "matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.patches")


def _tests(room: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{room}/test_{name}.py" for name in names)


ROOMS = {
    "cluster": Room(
        ("tfdist/cluster/*.py",),
        _tests("cluster", "address", "task", "checks", "spec", "bad_configs"),
    ),
    "schedules": Room(
        ("tfdist/schedules/[!_d]*.py",),
        _tests(
            "schedules",
            "schedule",
            "interleaved",
            "simulation",
            "partition",
            "plan",
            "plan_of_parts",
            "drawing",
            "weight_layout",
        ),
        _PICTURES,
    ),
    "drawing": Room(
        ("tfdist/schedules/drawing.py",),
        _tests("schedules", "drawing", "interleaved"),
        _PICTURES,
    ),
    "crew": Room(
        ("tfdist/launch/crew/strength.py", "tfdist/launch/crew/muster.py"),
        _tests("elastic", "foreman", "foreman_servers", "elastic_options", "muster"),
    ),
    "einsum": Room(
        ("tfdist/training/tensor_parallel/einsum_axes.py",),
        _tests("tensor_parallel", "einsum_axes"),
        ("tensorflow",),
    ),
    "layout": Room(
        ("tfdist/strategies/layout.py",), _tests("strategies", "layout"), ("tensorflow",)
    ),
    "sharding": Room(
        ("tfdist/training/data/sharding.py",), _tests("training", "sharding"), ("tensorflow",)
    ),
}
