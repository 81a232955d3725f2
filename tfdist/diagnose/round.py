"""What has become of one round of chaos, as a line of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfdist.diagnose.fault_plan import OVER_HOSTS, Fault

__all__ = ["HEAD", "Round"]

HEAD = (
    "| round | fault | task | phase | exit codes | trouble | end | s |\n"
    "|---:|---|---|---|---|---|---|---:|"
)
"""The first lines of the table."""

_FOR_A_WHILE = ("pause", "disk-full", *OVER_HOSTS[:1])


@dataclass(frozen=True)
class Round:
    """What has become of one round.

    Attributes:
        fault: what was done.
        struck: in which phase the job was then; "" where it had ended.
        codes: the exit codes of the job's starts, one by one, by launcher.
        hung: whether one had to be killed at the limit.
        left: how many processes and namespaces were left over.
        verdict: as `JobOutcome.compared_with` says it, or why there is no end.
        seconds: from the fault to the end.
    """

    fault: Fault
    struck: str
    codes: Mapping[str, Sequence[int]]
    hung: bool
    left: int
    verdict: str
    seconds: float

    def is_good(self, *, counts_will_do: bool) -> bool:
        """Whether it has ended as it should.

        Args:
            counts_will_do: whether the same counts are all that the job promises.
        """
        counted = counts_will_do and self.verdict.startswith("same counts")
        return (counted or self.verdict == "same bits") and not self.hung and not self.left

    def line(self, number: int) -> str:
        """Returns the round as a line of the table."""
        fault = self.fault
        kind = f"{fault.kind}, {fault.seconds:g} s" if fault.kind in _FOR_A_WHILE else fault.kind
        task = fault.task
        if fault.strikes_launcher:
            task = "launcher" if "launcher" in self.codes else f"launcher of {task}"
        phase = fault.moment
        if not self.struck:
            phase += ": too late"
        elif self.struck != phase:
            phase += f" ({self.struck})"
        codes = "; ".join(" ".join(map(str, one)) for one in self.codes.values())
        trouble = f"{'hung' if self.hung else '-'}, {self.left} left"
        return (
            f"| {number} | {kind} | {task} | {phase} | {codes} | {trouble} | {self.verdict} | "
            f"{self.seconds:.1f} |"
        )
