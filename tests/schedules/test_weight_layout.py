"""`layout_map`: which weights are cut along which axis, and what is refused."""

from __future__ import annotations

import types
from typing import Any

import pytest

from tfdist.errors import PlugError, StrategyError
from tfdist.schedules.weight_layout import WeightLayout

LAYOUT = {"up_[0-9]/kernel": (None, "model"), "up_[0-9]/bias": ["model"], "norm/.*": (None,)}


class OfKeras(dict[str, Any]):
    """As `keras.distribution.LayoutMap`: values with `axes`, and a mesh."""

    def __init__(self, shape: tuple[int, ...], **rules: Any) -> None:
        super().__init__({k: types.SimpleNamespace(axes=axes) for k, axes in rules.items()})
        self.device_mesh = types.SimpleNamespace(axis_names=("batch", "model"), shape=shape)


def refused(given: Any, devices: int | None = None) -> str:
    with pytest.raises(StrategyError) as caught:
        WeightLayout.of(given, devices)
    return str(caught.value)


def test_patterns_match_whole_paths() -> None:
    layout = WeightLayout.of(LAYOUT)
    assert layout.axis("up_1/kernel", 2) == 1
    assert layout.axis("up_1/bias", 1) == 0
    assert layout.axis("norm/gamma", 1) is None
    assert layout.axis("a/up_1/kernel", 2) is None
    assert layout.axis("up_1/kernel_2", 2) is None


def test_a_weight_of_another_number_of_axes_is_refused() -> None:
    layout = WeightLayout.of(LAYOUT)
    for path, rank in (("up_1/kernel", 3), ("norm/gamma", 2)):
        with pytest.raises(PlugError, match=rf"weight '{path}' has {rank} axes: give one entry"):
            layout.axis(path, rank)


def test_two_patterns_of_one_weight_are_refused() -> None:
    layout = WeightLayout.of({"a/.*": ("model",), ".*/b": ("model",), "c": ("model",)})
    with pytest.raises(PlugError, match=r"2 patterns for the weight 'a/b': 'a/\.\*', '\.\*/b'; "):
        layout.axis("a/b", 1)
    assert layout.axis("c", 1) == 0


def test_a_pattern_of_no_weight_is_refused_with_the_nearest() -> None:
    layout = WeightLayout.of({"up/kernel": ("model",), ".*down/kernl": ("model",)})
    paths = ["up/kernel", "down/kernel", *(f"w{i}" for i in range(12))]
    with pytest.raises(PlugError) as caught:
        layout.check_all_used(paths)
    assert str(caught.value) == (
        "layout_map has '.*down/kernl', which is no weight's path (did you mean 'down/kernel'? the "
        f"model has {', '.join(paths[:12])} and 2 more): give patterns of whole paths, as "
        "'.*dense/kernel'"
    )
    with pytest.raises(PlugError, match=r"w8, w9\): give"):  # as many as are shown
        WeightLayout.of({"zzzz": ("model",)}).check_all_used(paths[:12])
    WeightLayout.of({"up/kernel": ("model",)}).check_all_used(paths)
    with pytest.raises(PlugError, match=r"path \(the model has a, b\): give"):
        WeightLayout.of({"zzzz": ("model",)}).check_all_used(["a", "b"])


def test_what_is_no_layout_is_refused() -> None:
    assert refused("x").startswith("layout_map='x': give a dictionary from patterns of weights'")
    for given in ({"a": "model"}, {3: ("model",)}, {"a": (1,)}, {"a": None}):
        assert "give a pattern of weights' paths, and a tuple with one entry an axis" in refused(
            given
        )
    assert "the pattern 'a(', which is no regular expression" in refused({"a(": ("model",)})


def test_one_axis_of_a_weight_and_one_of_the_devices_is_cut() -> None:
    assert refused({"a": ("model", None, "model")}).startswith(
        "layout_map cuts 'a' along 2 axes, ('model', None, 'model'): name one of them"
    )
    said = refused({"a": ("y",), "b": ("x",)})
    assert said.startswith("layout_map names 2 axes of devices, x, y: name one")


def test_a_mesh_must_have_as_many_devices() -> None:
    given = OfKeras((2, 4), a=(None, "model"))
    assert WeightLayout.of(given, 4).axis("a", 2) == 1
    assert WeightLayout.of(given).axis("a", 2) == 1
    assert refused(given, 2) == (
        "layout_map is of a mesh whose axis 'model' has 4 devices, but weights are cut over 2: "
        "give the strategy tensor_parallel_size=4, or a mesh of 2"
    )
    assert refused(OfKeras((2, 4), a=("other",)), 4).startswith(
        "layout_map is of a mesh whose axis 'other' has None devices"
    )
    WeightLayout.of(OfKeras((2, 4), a=(None,)), 3)  # nothing is cut


def test_a_layout_stays_as_it_is() -> None:
    with pytest.raises(AttributeError):
        WeightLayout.of(LAYOUT).axes = {}  # type: ignore[misc]
