"""What a model was compiled with when a checkpoint was written, beside what its files hold."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfdist import log
from tfdist.errors import CheckpointError
from tfdist.training.model_parts import optimizers_of

__all__ = ["CompiledAs", "rates_of"]

_COUNTER = re.compile(r"_\d+$")
"""Keras names the second AUC of a program auc_1, whoever made the first."""


@dataclasses.dataclass(frozen=True)
class CompiledAs:
    """Losses, metrics and learning rates, as far as another run can be told from this one.

    Attributes:
        losses: their names, in their order.
        metrics: the variables of all, by their metrics' names, in their order.
        rates: of the optimizers; None for those of a schedule.
    """

    losses: Sequence[str]
    metrics: Sequence[str]
    rates: Sequence[float | None]

    @classmethod
    def of(cls, model: keras.Model, rates: Sequence[float | None]) -> CompiledAs:
        """Looks at a model that has taken steps, or is about to.

        Args:
            model: the model.
            rates: see `rates_of`, before anything was restored.
        """
        losses = keras.tree.flatten(getattr(model, "loss", None))
        paths = [v.path.rpartition("/") for metric in model.metrics for v in metric.variables]
        return cls(
            [_name(one) for one in losses if one is not None],
            [f"{_COUNTER.sub('', metric)}/{name}" for metric, _, name in paths],
            rates,
        )

    def to_tree(self) -> dict[str, object]:
        """Returns what `from_tree` takes."""
        return {"losses": self.losses, "metrics": self.metrics, "rates": self.rates}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> CompiledAs:
        """Reads what `to_tree` wrote."""
        return cls(tree["losses"], tree["metrics"], tree["rates"])

    def check_counts(self, before: CompiledAs) -> None:
        """Checks that metrics can go on from what others have counted of an epoch.

        Raises:
            CheckpointError: they would count something else.
        """
        for what in ("losses", "metrics"):
            then, now = getattr(before, what), getattr(self, what)
            if list(then) != list(now):
                raise CheckpointError(
                    f"the checkpoint is of the middle of an epoch with the {what} "
                    f"{_listed(then)}, and the model is compiled with {_listed(now)}: compile it "
                    "as in the run that wrote the checkpoint, or begin anew with resume=False"
                )

    def tell_of_rates(self, before: CompiledAs) -> None:
        """Warns of learning rates that `compile` was given, as the checkpoint's go on."""
        if len(self.rates) != len(before.rates):
            return
        for then, now in zip(before.rates, self.rates, strict=True):
            if None not in (then, now) and then != now:
                log.warning(
                    "the run that wrote the checkpoint began with a learning rate of %g, and the "
                    "model is compiled with %g now: training goes on with the checkpoint's; set "
                    "another one in a callback's on_epoch_begin",
                    then,
                    now,
                )


def rates_of(model: keras.Model) -> list[float | None]:
    """The learning rates of a model's optimizers as they are; None for those of a schedule."""
    rates = [getattr(optimizer, "learning_rate", None) for optimizer in optimizers_of(model)]
    return [float(rate.numpy()) if isinstance(rate, keras.Variable) else None for rate in rates]


def _name(loss: object) -> str:
    """The same of a loss, of its function and of its name in Keras."""
    found = keras.losses.get(loss) if isinstance(loss, str) else loss
    name = getattr(found, "name", None) or getattr(found, "__name__", None)
    return _COUNTER.sub("", str(name or type(found).__name__))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(name.partition("/")[0] for name in names)) or "none"
