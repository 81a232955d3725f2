"""A job that shows itself as its caller wishes, and tells what has asked for its end."""

from __future__ import annotations

from typing import Any

from tfdist.functions.view import InPython
from tfdist.launch.job import Job
from tfdist.launch.output import Display
from tfdist.launch.plan import JobPlan

__all__ = ["FunctionJob"]


class FunctionJob(Job):
    """A `launch.Job` whose launcher speaks Python."""

    def __init__(self, plan: JobPlan, display: Display | None = None, **how: Any) -> None:
        """Prepares the job.

        Args:
            plan: What to run.
            display: Shows it; None for the lines of all tasks, as `tfdist run` shows them.
            **how: The other arguments of `launch.Job`.
        """
        super().__init__(plan, **how)
        self._display = InPython(display or self._display)

    @property
    def asked(self) -> int:
        """The first signal that asked for its end; 0 where there was none."""
        return self._asked[0] if self._asked else 0
