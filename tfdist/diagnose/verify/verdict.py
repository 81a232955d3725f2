"""What is told at the end: equal, or the first difference and its causes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tfdist.diagnose.verify.causes import Cause
from tfdist.diagnose.verify.comparison import END, LAYER, ROWS, Difference
from tfdist.diagnose.verify.records import LATE, Failure

__all__ = ["DIFFERS", "EQUAL", "UNABLE", "UNREPEATED", "Verdict"]

EQUAL, DIFFERS, UNABLE, UNREPEATED = "equal", "differs", "unable", "unrepeated"

CODES = {EQUAL: 0, DIFFERS: 2, UNABLE: 1, UNREPEATED: 1}
"""The exit code of `tfdist verify`."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome of `tfdist verify`.

    Attributes:
        found: "equal"; "differs"; "unable": the script has failed by itself, or trains nothing;
            "unrepeated": one process does not do the same again.
        workers: how many there were.
        steps: how many were compared.
        runs: how many runs of the script it took.
        largest: the largest difference that is rounding.
        first: the first that is not; where "unrepeated", of two runs in one process.
        layer: the first layer whose output differs, in the same step.
        causes: found by experiment.
        failure: of the run on workers, or of the script itself.
        late: the line that makes the strategy where operations were run before; "" for none.
        tried: the changes that have changed nothing.
        seconds: it took.
        compared: how many arrays were compared.
        left_out: how many were not, since rounding alone may change them by more than 1 %, or
            each replica's has a shape of its own.
        names: of those.
    """

    found: str
    workers: int
    steps: int = 0
    runs: int = 0
    largest: Difference | None = None
    first: Difference | None = None
    layer: str = ""
    causes: tuple[Cause, ...] = ()
    failure: Failure | None = None
    late: str = ""
    tried: tuple[str, ...] = ()
    seconds: float = 0.0
    compared: int = 0
    left_out: int = 0
    names: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """The exit code."""
        return CODES[self.found]

    def to_json(self) -> str:
        """Returns all of it as JSON."""
        fields = {**dataclasses.asdict(self), "exit_code": self.code}
        return json.dumps(_finite(fields), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Verdict:
        """Returns what `to_json` was called for."""
        fields = json.loads(text)
        del fields["exit_code"]
        for name in ("largest", "first"):
            fields[name] = None if fields[name] is None else Difference(**_numbers(fields[name]))
        causes = [{**one, "lines": tuple(one["lines"])} for one in fields["causes"]]
        fields["causes"] = tuple(Cause(**one) for one in causes)
        for name in ("tried", "names"):
            fields[name] = tuple(fields[name])
        fields["failure"] = None if fields["failure"] is None else Failure(**fields["failure"])
        return cls(**fields)

    def text(self) -> str:
        """Returns it for people."""
        if self.found == EQUAL:
            return self._equal()
        if self.found == UNABLE:
            return self._unable()
        lines = [f"differs: {self.workers} workers do not train as one process does"]
        if self.found == UNREPEATED:
            lines = ["cannot be compared: one process does not repeat itself"]
        if self.first is not None:
            workers = 1 if self.found == UNREPEATED else self.workers
            lines.append(f"  first    {_told(self.first, workers)}")
        if self.layer and (self.first is None or self.first.stage != LAYER):
            lines.append(f"  layer    {self.layer}")
        if self.failure is not None:
            lines.append(f"  ended by {_failed(self.failure)}")
        for cause in self.causes:
            lines.append(f"  cause    {cause.kind}: {cause.what}")
            lines += [f"  at       {line}" for line in cause.lines]
            lines.append(f"  shown by {cause.shown_by}")
            lines.append(f"  cure     {cause.cure}")
        if not self.causes:
            tried = "; ".join(self.tried) or "nothing"
            lines.append(f"  cause    not found; what was changed without effect: {tried}")
        return "\n".join([*lines, self._end()])

    def _equal(self) -> str:
        largest = self.largest
        text = "equal to the last bit" if self.compared else "equal"
        if largest is not None and largest.size:
            where = f"{largest.stage} {largest.name}, step {largest.step}"
            text = f"equal to {largest.size:.0e} ({where})"
            if largest.size > 1e-6:
                text += ": what changed last bits alone make in one process is as large"
        if self.left_out:
            named = ", ".join(self.names[:3]) + (", ..." if len(self.names) > 3 else "")
            text += (
                f"\n  left out {self.left_out} arrays, which rounding alone may change by more "
                f"than 1 %, or which each replica has in a shape of its own: {named}"
            )
        return f"{text}\n{self._end()}"

    def _unable(self) -> str:
        why = "the script has taken no training step" if self.failure is None else ""
        if self.failure is not None:
            fails = "the script fails in one process, too: " if self.failure.kind else ""
            why = fails + _failed(self.failure)
        return f"nothing to compare: {why}"

    def _end(self) -> str:
        note = (
            f"  note     {self.late}, {LATE}: `tfdist run` refuses that on several workers; make "
            "it before any tensor or dataset, or run it with --plug\n"
        )
        arrays = f" ({self.compared} arrays)" if self.compared else ""
        return note * bool(self.late) + (
            f"{self.steps} steps{arrays}, 1 process and {self.workers} workers; {self.runs} runs, "
            f"{self.seconds:.0f} s"
        )


def _told(first: Difference, workers: int) -> str:
    where = f"step {first.step}, {first.stage}"
    if first.stage == ROWS:
        return f"{where}: {first.size:.0%} of the rows are not the same"
    if first.stage == END:
        return f"step {first.step}: the workers end ({first.name}) where one process goes on"
    whose = "" if first.worker is None or workers == 1 else f" on worker {first.worker}"
    by = "by all of it" if first.size == float("inf") else f"by {first.size:.1e}"
    return f"{where}: {first.name}{whose} {by} (rounding: {first.allowed:.0e})"


def _failed(failure: Failure | None) -> str:
    if failure is None:
        return ""
    kind = f"{failure.kind}: " if failure.kind else ""
    line = f" ({failure.line})" if failure.line else ""
    message = failure.message.strip().splitlines() or [""]
    return f"{kind}{message[0]}{line}"


def _finite(value: object) -> object:
    """The same without numbers that JSON has not."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "inf"
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _numbers(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: float("inf") if value == "inf" else value for name, value in fields.items()}
