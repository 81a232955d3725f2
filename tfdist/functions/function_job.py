"""A job that shows itself as its caller wishes, and tells what has asked for its end."""

from __future__ import annotations

from typing import Any

from tfdist.launch.job import Job
from tfdist.launch.output import Display
from tfdist.launch.plan import JobPlan

__all__ = ["FunctionJob"]


class FunctionJob(Job):
    """A `launch.Job` with a display of its own."""

    def __init__(self, plan: JobPlan, display: Display, **how: Any) -> None:
        """Prepares the job.

        Args:
            plan: What to run.
            display: Shows it.
            **how: The other arguments of `launch.Job`.
        """
        super().__init__(plan, **how)
        self._display = display

    @property
    def asked(self) -> int:
        """The first signal that asked for its end; 0 where there was none."""
        return self._asked[0] if self._asked else 0
