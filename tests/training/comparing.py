"""Runs the same program in plain Keras and on replicas, and holds the outcomes against each other.

A program is two functions: `make` builds and compiles a model (inside the scope), `use` trains it
and returns whatever it has seen: histories, logs, predictions. The outcomes are equal if what was
returned, the weights and the optimizer's variables are.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist

HISTORY = 1e-5
"""Relative: losses, metrics and predictions in float32. Float rounding, never to be loosened."""

AROUND_ZERO = 1e-7
"""Absolute: a number that should be zero has no relative difference; float32's rounding of 1."""

WEIGHTS = 2e-6
"""Absolute: weights and an optimizer's variables, in float32, with SGD and momentum."""

ADAM_WEIGHTS = 1e-5
"""Absolute, with Adam: it divides by the gradient's own size, so where a gradient is close to zero
its rounding error is divided by about itself, and moves the weight by a part of the rate."""

HALF = 2e-3
"""Relative and absolute under mixed_float16: a kernel's gradient is summed over the batch in
float16 (11 bits, 5e-4), and in another order on every number of replicas."""

BRAIN = 2e-2
"""Relative and absolute under mixed_bfloat16: the same, with 8 bits (4e-3)."""

LOSSES_OF_OUTPUTS = pytest.mark.xfail(
    keras.__version__.startswith("3.16."),
    strict=True,
    reason="Keras' 3.16 nightly weighs the loss of an output by the rows of a batch as large as "
    "the first one, and by 1 in a smaller one; tfdist, as Keras before, weighs all batches alike",
)
"""For programs of several outputs whose last batch is a partial one."""

THOROUGH = bool(os.environ.get("TFDIST_TEST_THOROUGH"))
"""Runs what differs little from its neighbours too; it takes twice the time."""

SHORT = bool(os.environ.get("TFDIST_TEST_SHORT"))
"""Takes the smaller job of two: `scripts/test --keras` runs the tests once for each Keras."""

EVERY = (2, 3) if THOROUGH else (2,) if SHORT else (3,)
"""Numbers of replicas; three share a batch unevenly, and workers are tested in both numbers."""

SEED = 7

Make = Callable[[], keras.Model]
Use = Callable[[keras.Model], Any]
Pair = tuple[str, Any, Any]


@dataclass(frozen=True)
class Outcome:
    """What a program returned and left behind."""

    result: Any
    weights: Any
    optimizer: list[Any]
    """Plain Keras makes an optimizer's slots at the first step, tfdist before it."""


@dataclass(frozen=True)
class Difference:
    """The largest differences of one test; each is relative to the tolerance's kind."""

    test: str
    where: str
    result: float
    weights: float


_differences: list[Difference] = []


@functools.cache
def mirrored(replicas: int) -> tf.distribute.Strategy:
    """The strategy over the first logical CPUs, one for the whole session."""
    return tfdist.strategy("mirrored", devices=[f"CPU:{i}" for i in range(replicas)])


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Seeds everything, and leaves no dtype policy behind."""
    policy = keras.config.dtype_policy()
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(SEED)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def in_plain_keras(make: Make, use: Use) -> Outcome:
    """Runs the program as if tfdist did not exist."""
    with seeded():
        model = make()
        return _outcome(use(model), model)


def on_replicas(replicas: int, make: Make, use: Use) -> Outcome:
    """Runs the program on so many logical CPUs."""
    return on_strategy(mirrored(replicas), make, use)


@functools.cache
def alone() -> tf.distribute.Strategy:
    """One device, one for the whole session."""
    return tfdist.strategy("one_device")


def on_strategy(strategy: tf.distribute.Strategy, make: Make, use: Use, **options: Any) -> Outcome:
    """Runs the program on all replicas of this strategy."""
    with seeded():
        with strategy.scope():
            model = make()
        tfdist.plug(model, **options)
        outcome = _outcome(use(model), model)
    check_replicas_agree(model, strategy)
    return outcome


def same(
    make: Make,
    use: Use,
    *,
    on: Sequence[int] = (3,),
    history: float = HISTORY,
    weights: float = WEIGHTS,
    miscounted: bool = False,
    finite: bool = True,
) -> Outcome:
    """Asserts that plain Keras and these numbers of replicas do the same; returns plain Keras'.

    `finite`: every number must be one; False where NaN or infinity is what a program is about.

    `miscounted`: plain Keras finds the end of data of unknown length by a step that fails, which
    the optimizer has counted by then: its number of iterations is left out of the comparison.
    """
    plain = in_plain_keras(make, use)
    for replicas in on:
        other = on_replicas(replicas, make, use)
        if miscounted:
            assert other.optimizer[0] <= plain.optimizer[0]
            other.optimizer[0] = plain.optimizer[0]
        assert_same(plain, other, history=history, weights=weights, finite=finite)
    return plain


def assert_same(
    plain: Outcome,
    other: Outcome,
    *,
    history: float = HISTORY,
    weights: float = WEIGHTS,
    where: str = "mirrored",
    finite: bool = True,
) -> None:
    """Asserts that two outcomes are equal to these tolerances, and (unless asked not to) finite.

    Two programs that have both come to nothing but NaN would be equal otherwise.
    """
    pairs, state = side_by_side(plain, other)
    if finite:
        refuse_what_is_not_finite([*pairs, *state])
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0].rpartition("/")[2]
    _differences.append(Difference(test, where, _relative(pairs), _absolute(state)))
    for path, a, b in pairs:
        np.testing.assert_allclose(b, a, rtol=history, atol=AROUND_ZERO, err_msg=path)
    for path, a, b in state:
        np.testing.assert_allclose(b, a, rtol=0, atol=weights, err_msg=path)


def side_by_side(plain: Outcome, other: Outcome) -> tuple[list[Pair], list[Pair]]:
    """The results' numbers and the variables of two outcomes; fails where the structures differ."""
    state = [
        *_pairs("weights", plain.weights, other.weights),
        *_pairs("optimizer", plain.optimizer, other.optimizer[: len(plain.optimizer)]),
    ]
    return list(_pairs("result", plain.result, other.result)), state


def refuse_what_is_not_finite(pairs: Sequence[Pair]) -> None:
    """Asserts that all numbers are finite, those of plain Keras and the others."""
    for path, *both in pairs:
        for whose, numbers in zip(("plain Keras", "the other"), both, strict=True):
            assert np.isfinite(numbers).all(), f"{path}: not finite in {whose}"


def check_replicas_agree(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Asserts that every replica has the very same weights, to the last bit."""
    optimizer = getattr(model, "optimizer", None)
    for variable in [*model.weights, *getattr(optimizer, "variables", [])]:
        copies = [copy.numpy() for copy in strategy.experimental_local_results(variable.value)]
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0], err_msg=variable.path)


def table() -> list[str]:
    """The largest differences of every test so far, as lines of text."""
    return [
        f"{d.result:8.1e} relative {d.weights:8.1e} absolute  {d.where}: {d.test}"
        for d in _differences
    ]


def _outcome(result: Any, model: keras.Model) -> Outcome:
    optimizer = getattr(model, "optimizer", None)
    return Outcome(
        result=result,
        weights=[weight.numpy() for weight in model.weights],
        optimizer=[variable.numpy() for variable in getattr(optimizer, "variables", [])],
    )


def _pairs(path: str, a: Any, b: Any) -> Iterator[Pair]:
    """The numbers of two equal structures side by side; fails where the structures differ."""
    if isinstance(a, dict):
        assert isinstance(b, dict), f"{path}: {type(b).__name__} instead of a dict"
        assert list(b) == list(a), f"{path}: {list(b)} instead of {list(a)}"
        for key in a:
            yield from _pairs(f"{path}[{key!r}]", a[key], b[key])
    elif isinstance(a, list | tuple):
        assert type(b) is type(a), f"{path}: {type(b).__name__} instead of {type(a).__name__}"
        assert len(b) == len(a), f"{path}: {len(b)} instead of {len(a)} entries"
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _pairs(f"{path}[{i}]", one, other)
    elif a is None or isinstance(a, str | bool):
        assert b == a, path
    else:
        one, other = np.asarray(a), np.asarray(b)
        assert other.shape == one.shape, f"{path}: shape {other.shape} instead of {one.shape}"
        if isinstance(a, np.ndarray):
            assert other.dtype == one.dtype, f"{path}: {other.dtype} instead of {one.dtype}"
        yield path, one.astype(np.float64), other.astype(np.float64)


def _relative(pairs: Sequence[Pair]) -> float:
    worst = 0.0
    for _, a, b in pairs:
        scale = np.maximum(np.abs(a), AROUND_ZERO / HISTORY)
        worst = max(worst, float(np.max(np.nan_to_num(np.abs(a - b) / scale), initial=0.0)))
    return worst


def _absolute(pairs: Sequence[Pair]) -> float:
    return max(
        (float(np.max(np.nan_to_num(np.abs(a - b)), initial=0.0)) for _, a, b in pairs), default=0.0
    )
