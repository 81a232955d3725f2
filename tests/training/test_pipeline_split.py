"""Where a pipeline cuts a model, by given and measured costs and within the memory."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfdist
from tests.training.models import X
from tests.training.test_pipeline import strategy
from tfdist.errors import PlugError
from tfdist.training.plugged import Plugged


def uneven() -> keras.Model:
    """A wide layer between narrow ones."""
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(16, name="narrow"),
            layers.Dense(2048, name="wide"),
            layers.Dense(16, name="after"),
            layers.Dense(16, name="last"),
        ]
    )
    model.compile("sgd", "mse")
    return model


def test_measured_costs_cover_every_layer_and_leave_the_model_as_it_was() -> None:
    model = uneven()
    before = model.get_weights()
    costs = tfdist.pipeline.measure_costs(model, np.ones((512, 16), "float32"))
    assert set(costs) == {"narrow", "wide", "after", "last"}
    assert costs["wide"] > costs["last"] > 0
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(
    ("costs", "second"), [((9.0, 1.0, 1.0, 1.0), "wide"), ((1.0, 1.0, 1.0, 9.0), "last")]
)
def test_given_costs_decide_the_split(costs: Any, second: str) -> None:
    seconds = dict(zip(("narrow", "wide", "after", "last"), costs, strict=True))
    with strategy({"stages": 2, "microbatches": 2}).scope():
        model = uneven()
    tfdist.plug(model, costs=seconds)
    model.fit(X[:, :1].repeat(16, 1), X[:, :1].repeat(16, 1), 32, verbose=0)
    assert _stages(model)[1][0] == second


def test_the_split_keeps_within_the_memory() -> None:
    """By cost alone the wide layer and the one after it would be together."""
    narrow_and_wide = 4 * 4 * (16 * 16 + 16 + 16 * 2048 + 2048)
    with strategy({"stages": 2, "microbatches": 2}).scope():
        model = uneven()
    tfdist.plug(model, memory_limit=narrow_and_wide + 1)
    model.fit(X[:, :1].repeat(16, 1), X[:, :1].repeat(16, 1), 32, verbose=0)
    assert _stages(model)[1][0] == "after"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"costs": {"narrow": 1.0}}, "costs has nothing for the layer 'wide'; it has narrow"),
        ({"memory_limit": 1000}, "no split into 2 stages keeps each within 1e"),
    ],
)
def test_a_split_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with strategy({"stages": 2, "microbatches": 2}).scope():
        model = uneven()
    tfdist.plug(model, **options)
    with pytest.raises(PlugError, match=re.escape(says)):
        model.fit(X[:, :1].repeat(16, 1), X[:, :1].repeat(16, 1), 32, verbose=0)


def test_named_stages_keep_within_the_memory_too() -> None:
    with strategy({"stages": ["wide"], "microbatches": 2}).scope():
        model = uneven()
    tfdist.plug(model, memory_limit=500_000)
    with pytest.raises(PlugError, match=r"the layers of CPU:1 need 1 MB"):
        model.fit(X[:, :1].repeat(16, 1), X[:, :1].repeat(16, 1), 32, verbose=0)


def _stages(model: keras.Model) -> list[list[str]]:
    plugged = Plugged.of(model)
    assert plugged is not None
    family: Any = plugged._prepared((X[:4, :1].repeat(16, 1), X[:4, :1].repeat(16, 1))).family
    return [[piece.name for piece in stage.pieces] for stage in family.programs.executor.stages]
