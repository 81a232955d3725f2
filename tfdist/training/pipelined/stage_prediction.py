"""Prediction by a pipeline: Keras' own loop over the batches, each batch through the stages."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfdist.training.data.stream import Step
from tfdist.training.pipelined.pipelined import Pipelined

__all__ = ["PipelinedPrediction"]


class PipelinedPrediction:
    """Predicts on the stages of one plugged model.

    Args:
        family: the model's.

    Attributes:
        function: what Keras' `predict` is to run for a list of batches.
    """

    def __init__(self, family: Pipelined) -> None:
        self.function = family.predict_function()

    def predict_batch(self, step: Step) -> Any:
        """Returns the outputs for one batch."""
        outputs = self.function([step.parts[0]])
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), outputs)
