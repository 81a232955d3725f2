"""The options of `tfdist.plug`, checked before anything is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfdist.errors import PlugError
from tfdist.strategies.options import did_you_mean

__all__ = ["TrainingOptions"]

_GRADIENT_DTYPES = (None, "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How replicas that train in step exchange what they have learnt. All are off by default.

    Attributes:
        gradient_dtype: "bfloat16" or "float16" sends gradients between replicas with half the
            bytes; the update itself stays in the variables' own precision, and sparse gradients (of
            embeddings) are sent as they are. "float16" overflows
            above 65,504: use it with loss scaling or with small gradients only.
        error_feedback: adds to each gradient what the rounding to `gradient_dtype` took from the
            one before it (Seide et al., 1-Bit Stochastic Gradient Descent, 2014); costs one more
            copy of the weights on each replica.
        local_steps: H > 1 has each replica take H steps by itself before the replicas' weights are
            brought together, for slow links (DiLoCo: Douillard et al., 2023). The results are no
            longer those of one machine.
        outer_learning_rate: how far the weights move to the replicas' mean, after H local steps.
        outer_momentum: Nesterov momentum of that outer update; 0 with `outer_learning_rate=1` is
            plain averaging of the weights.
    """

    gradient_dtype: str | None = None
    error_feedback: bool = False
    local_steps: int = 1
    outer_learning_rate: float = 0.7
    outer_momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.gradient_dtype not in _GRADIENT_DTYPES:
            raise PlugError(
                f"gradient_dtype={self.gradient_dtype!r}: give 'bfloat16', 'float16' or None"
            )
        if self.error_feedback and self.gradient_dtype is None:
            raise PlugError(
                "error_feedback=True without a gradient_dtype: nothing is rounded, so there is "
                "nothing to feed back; give gradient_dtype='bfloat16' too, or leave it out"
            )
        if type(self.local_steps) is not int or self.local_steps < 1:
            raise PlugError(f"local_steps={self.local_steps!r}: give a number of steps, at least 1")
        if self.local_steps > 1 and self.gradient_dtype is not None:
            raise PlugError(
                "local_steps with a gradient_dtype: with local steps no gradients are exchanged; "
                "choose one of the two"
            )
        if not self.outer_learning_rate > 0 or not 0 <= self.outer_momentum < 1:
            raise PlugError(
                f"outer_learning_rate={self.outer_learning_rate!r}, outer_momentum="
                f"{self.outer_momentum!r}: give a rate above 0 and a momentum from 0 to below 1"
            )

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> TrainingOptions:
        """Returns the options for `plug`'s keywords; the unknown are named with the nearest."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in keywords:
            if name not in known:
                hint = did_you_mean(name, known)
                raise PlugError(f"plug has no option {name!r}; {hint}it has {', '.join(known)}")
        return cls(**keywords)
