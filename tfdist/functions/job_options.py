"""How a function's job runs, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from tfdist.cluster.checks import KINDS, MODEL_PARALLEL
from tfdist.cluster.task import nearest
from tfdist.errors import LaunchError, StrategyError
from tfdist.given_numbers import is_count
from tfdist.launch.network import How

__all__ = ["KINDS", "OPTIONS", "JobOptions", "Returns", "Show"]

Show = Literal["auto", "bar", "lines", "none"]
Returns = Literal["chief", "all"]
_CHOICES = {
    "show": ("auto", "bar", "lines", "none"),
    "returns": ("chief", "all"),
    "isolate": ("auto", "on", "off"),
}


@dataclass(frozen=True)
class JobOptions:
    """What `tfdist.run` takes beside the function and its arguments; see there.

    Raises:
        StrategyError: There is no such strategy.
        LaunchError: Another option is none.
    """

    workers: int = 2
    ps: int = 0
    chief: bool | None = None
    strategy: str | None = None
    plug: bool = False
    returns: Returns = "chief"
    timeout: float | None = None
    show: Show = "auto"
    threads: int | Literal["auto"] = "auto"
    gpus_per_task: int | None = None
    gpu_memory: int | None = None
    max_restarts: int | None = None
    isolate: How = "auto"
    log_dir: str | os.PathLike[str] | None = None
    environ: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            given = getattr(self, name)
            if given not in known:
                raise LaunchError(
                    f"{name}={given!r}{nearest(given, known)}; give one of {', '.join(known)}"
                )
        for name in ("workers", "ps"):
            given = getattr(self, name)
            if not is_count(given, 0):
                raise LaunchError(f"{name}={given!r}: give a whole number, 0, 1, 2, ...")
        if self.strategy is not None and self.strategy not in KINDS:
            raise StrategyError(
                f"strategy={self.strategy!r}{nearest(self.strategy, KINDS)}; give one of "
                f"{', '.join(KINDS)}, or leave it out where the function makes its own"
            )
        if self.strategy == "parameter_server" and not self.ps:
            raise StrategyError(
                'strategy="parameter_server" without a parameter server: give ps=1, or more'
            )
        for name, value in (self.environ or {}).items():
            if not (isinstance(name, str) and isinstance(value, str)):
                raise LaunchError(f"environ={{{name!r}: {value!r}}}: give names and values as text")
        if self.timeout is not None and not self.timeout > 0:
            raise LaunchError(f"timeout={self.timeout!r}: give seconds above 0, or None for none")

    @property
    def has_chief(self) -> bool:
        """Whether there is a chief beside the workers, but for what servers bring with them."""
        return self.strategy in MODEL_PARALLEL if self.chief is None else self.chief

    @property
    def gives_scope(self) -> bool:
        """Whether the tasks read their arguments in a strategy's scope."""
        return self.strategy is not None or self.plug


OPTIONS = tuple(one.name for one in fields(JobOptions))
"""The names of all of them."""
