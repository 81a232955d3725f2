"""Every option of `tfdist.strategy` is checked, refused in a whole sentence, and documented."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tfdist.cluster.checks import MODEL_PARALLEL
from tfdist.errors import ClusterError, StrategyError
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.strategies import factory
from tfdist.strategies.strategy_options import (
    KINDS,
    PIPELINE,
    TENSOR_PARALLEL,
    Options,
    check_kind,
    did_you_mean,
)

KNOWN = (
    "device, devices, logical_devices, communication, rendezvous_timeout, intra_op_threads, "
    "inter_op_threads, microbatches, schedule, stages, replicas, recompute, place, "
    "tensor_parallel_size, layout_map"
)


TWO = ("worker:0", "worker:1")


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The options of a function, which are its keyword parameters, and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


def described_in(docstring: str | None) -> list[str]:
    """The arguments that a docstring describes, in its order."""
    assert docstring is not None
    section = inspect.cleandoc(docstring).partition("Args:\n")[2].partition("\n\n")[0]
    return re.findall(r"^    (\w+): \S", section, flags=re.MULTILINE)


def refused(what: Callable[[], Any]) -> str:
    with pytest.raises(StrategyError) as caught:
        what()
    return str(caught.value)


@contextlib.contextmanager
def refused_by(name: str, error: type[Exception]) -> Iterator[None]:
    """What is refused within, if anything is, is refused with this error, which has the name."""
    try:
        yield
    except Exception as refusal:
        if type(refusal) is not error or name not in str(refusal):
            raise


# ---------------------------------------------------------------- one list of options


def test_the_signature_has_the_defaults_of_the_options() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(Options)}
    assert defaults_of(factory.strategy) == fields


def test_a_pipelines_options_have_the_defaults_of_its_plan() -> None:
    assert Options().plan("pipeline", TWO) == PipelinePlan(TWO)
    assert Options().plan("tensor_parallel", TWO) == PipelinePlan.of_one_stage(TWO)


def test_every_option_is_described_in_the_docstring() -> None:
    names = [field.name for field in dataclasses.fields(Options)]
    assert described_in(factory.strategy.__doc__) == ["kind", "cluster", *names]


def test_every_kind_is_described_in_the_docstring() -> None:
    told = re.findall(r'"(\w+)"', str(factory.strategy.__doc__).partition("cluster:")[0])
    assert set(KINDS) <= set(told)


# ---------------------------------------------------------------- values

ODD = [
    2,
    -1,
    2.5,
    float("nan"),
    "x",
    "",
    b"x",
    True,
    [],
    ["x"],
    [2],
    (),
    {},
    {"x": 1},
    {"x": "y"},
    object(),
]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Options)])
def test_whatever_an_option_is_given_it_is_taken_or_refused_by_its_name(name: str) -> None:
    for value in ODD:
        for kind in MODEL_PARALLEL:
            with refused_by(name, StrategyError):
                Options.from_keywords({name: value}).plan(kind, TWO)


@pytest.mark.parametrize("value", [2, {"worker": ["localhost:1"]}, "cluster.json"])
def test_a_cluster_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ClusterError, match=r"give a tfdist\.Cluster, such as Cluster\.from_json"):
        factory.strategy(cluster=value)


def test_numpys_numbers_are_numbers() -> None:
    two = np.int64(2)
    options = Options.from_keywords({"intra_op_threads": two, "microbatches": two, "stages": two})
    assert options.plan("pipeline", TWO).num_stages == 2


@pytest.mark.parametrize("name", ["intra_op_threads", "inter_op_threads"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_a_number_below_one_or_none_at_all_is_refused(name: str, value: Any) -> None:
    said = refused(lambda: Options.from_keywords({name: value}))
    assert said == f"{name}={value!r}: give a number of at least 1, or None"


@pytest.mark.parametrize("name", ["logical_devices", "intra_op_threads", "inter_op_threads"])
@pytest.mark.parametrize("value", [1, 7, None])
def test_a_number_of_at_least_one_and_none_are_taken(name: str, value: Any) -> None:
    assert getattr(Options.from_keywords({name: value}), name) == value


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, "TPU:2", "CPU:0", "GPU:", "GPU:2:3"])
def test_logical_devices_that_are_no_number_of_a_kind_are_refused(value: Any) -> None:
    said = refused(lambda: Options(logical_devices=value))
    assert said == (
        f"logical_devices={value!r}: give a number of at least 1, one of a kind as "
        '"GPU:2" or "CPU:2", or None'
    )


@pytest.mark.parametrize(
    ("value", "kind", "count"),
    [(None, "", None), (3, "", 3), ("CPU:2", "CPU", 2), ("gpu:16", "GPU", 16)],
)
def test_logical_devices_are_a_number_and_may_be_of_a_kind(
    value: Any, kind: str, count: int | None
) -> None:
    options = Options(logical_devices=value)
    assert (options.logical_kind, options.logical_count) == (kind, count)


@pytest.mark.parametrize("value", [0, -0.5, float("nan"), float("inf"), 1e9, "60"])
def test_a_rendezvous_timeout_that_is_no_time_is_refused(value: Any) -> None:
    said = refused(lambda: Options(rendezvous_timeout=value))
    assert said == f"rendezvous_timeout={value!r}: give seconds above 0 and below 1e9, or None"


@pytest.mark.parametrize("value", [0.001, 90])
def test_a_rendezvous_timeout_is_the_deadline_in_seconds(value: Any) -> None:
    deadline = Options(rendezvous_timeout=value).deadline
    assert deadline == value
    assert isinstance(deadline, float)


def test_without_a_timeout_the_environment_tells_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TFDIST_RENDEZVOUS_TIMEOUT", raising=False)
    assert Options().deadline == 120.0
    monkeypatch.setenv("TFDIST_RENDEZVOUS_TIMEOUT", "7.5")
    assert Options().deadline == 7.5


def test_an_unknown_communication_is_refused() -> None:
    said = refused(lambda: Options(communication="gloo"))
    assert said == "communication='gloo': give one of auto, ring, hierarchical, nccl"


@pytest.mark.parametrize("value", ["auto", "ring", "hierarchical", "nccl"])
def test_every_communication_that_is_named_is_taken(value: str) -> None:
    assert Options(communication=value).communication == value


def test_one_device_in_place_of_a_list_is_refused() -> None:
    """A string is a sequence too, and would be read as devices of one letter each."""
    said = refused(lambda: Options.from_keywords({"devices": "GPU:0"}))
    assert said.startswith("devices='GPU:0': give a list of devices, such as")


def test_a_list_of_devices_is_kept_as_it_was_given() -> None:
    given = ["CPU:0", "CPU:1"]
    options = Options.from_keywords({"devices": given})
    given.clear()
    assert options.devices == ("CPU:0", "CPU:1")
    assert Options.from_keywords({"devices": None}).devices is None


# ---------------------------------------------------------------- names


def test_a_misspelt_option_is_refused_with_the_nearest() -> None:
    said = refused(lambda: Options.from_keywords({"logical_device": 2}))
    assert said == (f"no option 'logical_device'; did you mean 'logical_devices'? it knows {KNOWN}")


def test_an_option_that_is_like_no_other_is_refused_with_all() -> None:
    said = refused(lambda: Options.from_keywords({"xyzzy": 1}))
    assert said == f"no option 'xyzzy'; it knows {KNOWN}"


def test_a_misspelt_kind_is_refused_with_the_nearest() -> None:
    said = refused(lambda: check_kind("miror"))
    assert said == (
        "no strategy 'miror'; did you mean 'mirrored'? there is auto, one_device, mirrored, "
        "multi_worker_mirrored, parameter_server, pipeline, tensor_parallel"
    )


def test_a_kind_that_is_no_name_is_refused() -> None:
    kind: Any = 3
    assert refused(lambda: check_kind(kind)).startswith("no strategy 3; there is auto, ")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_is_named_is_taken(kind: str) -> None:
    check_kind(kind)


@pytest.mark.parametrize(
    ("name", "hint"), [("stage", "did you mean 'stages'? "), ("quux", ""), ("", "")]
)
def test_the_nearest_name_is_told_where_one_is_near(name: str, hint: str) -> None:
    assert did_you_mean(name, ["stages", "place"]) == hint


# ---------------------------------------------------------------- what means nothing

GIVEN: dict[str, Any] = {
    "device": "CPU:0",
    "devices": ["CPU:0"],
    "logical_devices": 2,
    "communication": "ring",
    "rendezvous_timeout": 3.0,
    "intra_op_threads": 1,
    "inter_op_threads": 1,
    "microbatches": 8,
    "schedule": "gpipe",
    "stages": 2,
    "replicas": 2,
    "recompute": True,
    "place": {"a*": 0},
    "tensor_parallel_size": 2,
    "layout_map": {".*kernel": (None, "model")},
}
"""Every option, with a value that is not its default."""

MEANS = {
    "device": ("one_device",),
    "devices": ("mirrored",),
    "logical_devices": ("mirrored", "one_device", *MODEL_PARALLEL),
    "communication": ("multi_worker_mirrored",),
    "rendezvous_timeout": ("multi_worker_mirrored", "parameter_server", *MODEL_PARALLEL),
    "intra_op_threads": KINDS,
    "inter_op_threads": KINDS,
    **dict.fromkeys(PIPELINE, ("pipeline",)),
    **dict.fromkeys(TENSOR_PARALLEL, MODEL_PARALLEL),
}
"""To which kinds."""


def test_every_option_is_tried_here() -> None:
    assert list(GIVEN) == [field.name for field in dataclasses.fields(Options)]
    assert set(MEANS) == set(GIVEN)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "auto"])
@pytest.mark.parametrize("name", GIVEN)
def test_an_option_that_a_kind_would_ignore_is_refused(name: str, kind: str) -> None:
    options = Options.from_keywords({name: GIVEN[name]})
    if kind in MEANS[name]:
        options.check_for(kind)
        return
    said = refused(lambda: options.check_for(kind))
    assert said == (
        f"{name} means nothing to the strategy {kind!r}, only to {' and '.join(MEANS[name])}: "
        "leave it out or ask for that kind"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_options_that_were_left_alone_mean_nothing_wrong_to_any_kind(kind: str) -> None:
    Options().check_for(kind)


def test_places_of_layers_are_handed_on_to_the_plan() -> None:
    plan = Options(place={"a*": 1}, microbatches=2).plan("pipeline", TWO)
    assert plan == PipelinePlan(TWO, microbatches=2, place={"a*": 1})
