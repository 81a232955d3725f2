"""The options of `tfdist.strategy`, checked before TensorFlow is imported."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from tfdist.cluster.checks import KINDS, MODEL_PARALLEL
from tfdist.errors import StrategyError
from tfdist.given_numbers import is_count, is_wait
from tfdist.process import rendezvous_timeout
from tfdist.schedules.pipeline_plan import PipelinePlan

__all__ = ["KINDS", "Options", "check_kind", "did_you_mean"]

PIPELINE = ("microbatches", "schedule", "stages", "recompute", "place")
"""The options of a pipeline, which `tfdist.schedules.pipeline_plan.PipelinePlan` checks."""

TENSOR_PARALLEL = ("replicas", "tensor_parallel_size", "layout_map")
"""Those of a pipeline and of tensor parallelism, which it checks, too."""

_KIND_AND_COUNT = re.compile(r"(CPU|GPU):[1-9][0-9]*", re.ASCII | re.IGNORECASE)
_COMMUNICATION = ("auto", "ring", "hierarchical", "nccl")
_ONLY_FOR = {
    "device": ("one_device",),
    "devices": ("mirrored",),
    "logical_devices": ("mirrored", "one_device", *MODEL_PARALLEL),
    "communication": ("multi_worker_mirrored",),
    "rendezvous_timeout": ("multi_worker_mirrored", "parameter_server", *MODEL_PARALLEL),
    **dict.fromkeys(PIPELINE, ("pipeline",)),
    **dict.fromkeys(TENSOR_PARALLEL, MODEL_PARALLEL),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """How to make a strategy: the options of `tfdist.strategy`, which says what each means."""

    device: str | None = None
    devices: tuple[str, ...] | None = None
    logical_devices: int | str | None = None
    communication: str = "auto"
    rendezvous_timeout: float | None = None
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    microbatches: int = 4
    schedule: str = "1f1b"
    stages: int | Sequence[str] | None = None
    replicas: int = 1
    recompute: bool = False
    place: Mapping[str, int] | None = None
    tensor_parallel_size: int | None = None
    layout_map: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        cut = self.logical_devices
        if cut is not None and not (is_count(cut) or _KIND_AND_COUNT.fullmatch(str(cut))):
            raise StrategyError(
                f"logical_devices={cut!r}: give a number of at least 1, one of a kind as "
                '"GPU:2" or "CPU:2", or None'
            )
        for name in ("intra_op_threads", "inter_op_threads"):
            value = getattr(self, name)
            if value is not None and not is_count(value):
                raise StrategyError(f"{name}={value!r}: give a number of at least 1, or None")
        value = self.rendezvous_timeout
        if value is not None and not is_wait(value):
            raise StrategyError(
                f"rendezvous_timeout={value!r}: give seconds above 0 and below 1e9, or None"
            )
        if self.communication not in _COMMUNICATION:
            raise StrategyError(
                f"communication={self.communication!r}: give one of {', '.join(_COMMUNICATION)}"
            )
        if self.device is not None and not isinstance(self.device, str):
            raise StrategyError(f"device={self.device!r}: give a name such as 'GPU:0', or None")
        if self.devices is not None and not _are_names(self.devices):
            raise StrategyError(
                f"devices={self.devices!r}: give a list of devices, such as ['GPU:0', 'GPU:1']; "
                "logical_devices=2 cuts one into two"
            )

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> Options:
        """Returns the options for `strategy`'s keywords; the unknown are named with the nearest."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in keywords:
            if name not in known:
                hint = did_you_mean(name, known)
                raise StrategyError(f"no option {name!r}; {hint}it knows {', '.join(known)}")
        given = dict(keywords)
        if isinstance(given.get("devices"), list):
            given["devices"] = tuple(given["devices"])
        return cls(**given)

    def check_for(self, kind: str) -> None:
        """Checks that the options which were given mean something to this kind of strategy.

        Raises:
            StrategyError: one of them would be ignored.
        """
        for field in dataclasses.fields(self):
            kinds = _ONLY_FOR.get(field.name)
            if kinds and kind not in kinds and getattr(self, field.name) != field.default:
                raise StrategyError(
                    f"{field.name} means nothing to the strategy {kind!r}, only to "
                    f"{' and '.join(kinds)}: leave it out or ask for that kind"
                )

    def plan(self, kind: str, tasks: tuple[str, ...]) -> PipelinePlan:
        """The degrees of a pipeline, or of tensor parallelism, over some tasks.

        Args:
            kind: one of `MODEL_PARALLEL`.
            tasks: their names.

        Raises:
            StrategyError: they do not fit the options.
        """
        shared = {name: getattr(self, name) for name in TENSOR_PARALLEL}
        if kind == "tensor_parallel":
            return PipelinePlan.of_one_stage(tasks, **shared)
        if self.tensor_parallel_size is None:
            if self.layout_map is not None:
                raise StrategyError(
                    "layout_map under 'pipeline', but nothing says over how many tasks each stage "
                    "is to cut its weights: give tensor_parallel_size=2, too, or leave it out"
                )
            shared["tensor_parallel_size"] = 1
        own = {name: getattr(self, name) for name in PIPELINE}
        return PipelinePlan(tasks, **{**own, **shared, "place": self.place or {}})

    @property
    def logical_count(self) -> int | None:
        """Into how many devices one is to be cut; None leaves it whole."""
        cut = self.logical_devices
        return int(cut.rpartition(":")[2]) if isinstance(cut, str) else cut

    @property
    def logical_kind(self) -> str:
        """The kind of device that is to be cut, "CPU" or "GPU"; "" where the options do not say."""
        cut = self.logical_devices
        return cut.partition(":")[0].upper() if isinstance(cut, str) else ""

    @property
    def deadline(self) -> float:
        """Seconds that the tasks wait for each other before training."""
        if self.rendezvous_timeout is not None:
            return float(self.rendezvous_timeout)
        return rendezvous_timeout()


def _are_names(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns "did you mean 'x'? " with the nearest of the known names; "" where none is near."""
    nearest = get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]!r}? " if nearest else ""


def check_kind(kind: str) -> None:
    """Checks the name of a kind of strategy.

    Raises:
        StrategyError: there is none of that name.
    """
    if kind in KINDS:
        return
    hint = did_you_mean(str(kind), KINDS)
    raise StrategyError(f"no strategy {kind!r}; {hint}there is {', '.join(KINDS)}")
