"""What the steps of a loop were made for: a model as it was compiled then."""

from __future__ import annotations

import keras

from tfdist.errors import PlugError
from tfdist.training.loop.family import Family

__all__ = ["MadeFor"]


class MadeFor:
    """Stands in `model.train_function` for what a loop was made for; `compile` puts None there."""

    def check(self, model: keras.Model, family: Family, method: str) -> None:
        """Sees to what a callback has done to the model since its steps were made.

        Args:
            model: the loop's.
            family: what takes its steps.
            method: "fit" or "evaluate", for the message.

        Raises:
            PlugError: it has compiled the model anew.
        """
        function = model.train_function
        if function is self:
            return
        if function is None or isinstance(function, MadeFor):
            raise PlugError(
                f"a callback has compiled the model while {method} was running, whose steps are "
                "those of what was compiled before (plain Keras ends here in 'NoneType' object is "
                "not callable): end it first (model.stop_training = True, or fewer epochs), then "
                "compile and call fit again with initial_epoch; a learning rate can be set at any "
                "time"
            )
        # `make_train_function(force=True)`: what has been frozen meanwhile stays as it is from now.
        family.retrace()
        model.train_function = self
