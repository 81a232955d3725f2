"""What the doctor says: findings, and the report that they make."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["LEVELS", "Finding", "Report", "who"]

LEVELS = ("bad", "doubtful", "unchecked", "good")
"""From what keeps a job from running, over what may harm it and what nobody has looked at."""

_MOST_NAMES = 5
_WIDTH = 100
_INDENT = " " * 23


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Attributes:
        level: One of `LEVELS`.
        check: What was looked at, as "port": a name that stays.
        text: What there is.
        todo: What to do; "" only where there is nothing to do.
        tasks: Which tasks it is about; all of them, or none in particular, where empty.

    Raises:
        ValueError: There is no such level, or something bad comes without what to do.
    """

    level: str
    check: str
    text: str
    todo: str = ""
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level {self.level!r}; the levels are {', '.join(LEVELS)}")
        if not self.todo and self.level != "good":
            raise ValueError(f"nothing to do for what is {self.level}: {self.text}")


@dataclass(frozen=True)
class Report:
    """All that the doctor says.

    Attributes:
        findings: In the order in which they were looked at.
    """

    findings: Sequence[Finding] = field(default_factory=tuple)

    @property
    def exit_code(self) -> int:
        """0 where nothing is bad, else 1."""
        return int(any(one.level == "bad" for one in self.findings))

    @property
    def verdict(self) -> str:
        """The last line: how many findings there are of each level."""
        counts = ", ".join(f"{self._count(level)} {level}" for level in reversed(LEVELS))
        if self.exit_code:
            return f"mend what is bad before you start the job ({counts})"
        return f"nothing keeps the job from running ({counts})"

    def text(self, levels: Sequence[str] = LEVELS) -> str:
        """The report for people.

        Args:
            levels: Which findings to show.
        """
        shown = [one for one in self.findings if one.level in levels]
        return "".join(_lines(one) for one in shown) + f"{self.verdict}\n"

    def to_json(self) -> dict[str, object]:
        """The report for programs; its keys stay."""
        return {
            "well": not self.exit_code,
            "counts": {level: self._count(level) for level in LEVELS},
            "findings": [
                {
                    "level": one.level,
                    "check": one.check,
                    "tasks": list(one.tasks),
                    "text": one.text,
                    "todo": one.todo,
                }
                for one in self.findings
            ],
        }

    def _count(self, level: str) -> int:
        return sum(one.level == level for one in self.findings)


def _lines(finding: Finding) -> str:
    head = f"{finding.level:<10} {finding.check:<12}"
    return _wrapped(head + finding.text) + (
        _wrapped(f"{_INDENT}-> {finding.todo}") if finding.todo else ""
    )


def _wrapped(text: str) -> str:
    # An address, a path or a command must stay fit to be copied.
    wrapper = textwrap.TextWrapper(
        _WIDTH, subsequent_indent=_INDENT, break_on_hyphens=False, break_long_words=False
    )
    return "".join(f"{line}\n" for line in wrapper.wrap(text))


def who(tasks: Iterable[str], of: int = 0) -> str:
    """Names tasks; of many the number, and the first few.

    Args:
        tasks: One or more names of tasks; "" stands for a process that is none.
        of: How many there are in all; 0 where that does not matter.

    Returns:
        For example "worker:0 and worker:1", "all 3 tasks", or "62 tasks (worker:0, ...)".
    """
    names = [task or "this machine" for task in tasks]
    if len(names) == of and of > 2:
        return f"all {of} tasks"
    if len(names) > _MOST_NAMES:
        return f"{len(names)} tasks ({', '.join(names[: _MOST_NAMES - 1])}, ...)"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
