"""Why a generation of a job has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tfdist.cluster import Task
from tfdist.launch.restarts import is_hopeless

__all__ = ["Cause", "Kind", "kind_of", "worst_of"]

Kind = Literal["hopeless", "failed", "lost", "follows"]
_RANKS: tuple[Kind, ...] = ("hopeless", "failed", "lost", "follows")


@dataclass(frozen=True)
class Cause:
    """Why a generation has ended, as one launcher sees it.

    Attributes:
        kind: "hopeless" would fail again; "failed" is an error of the task's own; "lost" is a
            process or a host that is gone; "follows" comes of another one's.
        code: The exit code that it stands for.
        text: In words.
        place: Whose it is; None where only a host is known.
    """

    kind: Kind
    code: int
    text: str
    place: Task | None = None

    def to_tree(self) -> dict[str, Any]:
        """Returns what `from_tree` takes."""
        place = None if self.place is None else str(self.place)
        return {"kind": self.kind, "code": self.code, "text": self.text, "place": place}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Cause:
        """Reads what `to_tree` wrote."""
        kind: Kind = tree["kind"] if tree["kind"] in _RANKS else "failed"
        place = None if tree["place"] is None else Task.parse(str(tree["place"]))
        return cls(kind, int(tree["code"]), str(tree["text"])[:2000], place)


def kind_of(code: int, *, by_signal: bool, follows: bool) -> Kind:
    """Says what a task's bad end means for the job.

    Args:
        code: Its exit code.
        by_signal: Whether a signal ended it that was not ours.
        follows: Whether it came of another one's end.
    """
    if is_hopeless(code):
        return "hopeless"
    if follows:
        return "follows"
    return "lost" if by_signal else "failed"


def worst_of(causes: Sequence[Cause]) -> Cause | None:
    """The cause that decides; None where there is none."""
    return min(causes, key=lambda one: _RANKS.index(one.kind), default=None)
