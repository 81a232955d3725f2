"""A pytest plugin: Keras' own tests, with every model that they use trained by a strategy.

A test runs inside the strategy's scope, as Keras' guides write it, and a model is plugged when it
is first fitted, evaluated or asked for a prediction. Without a strategy nothing is changed, and the
tests tell what plain Keras does. What each test did is written to a file, a line of JSON each, as
it happens: whoever started this process knows which test it died in.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

METHODS = (
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
)
"""A model is plugged at its first call of one of these."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--strategy", default=None, help="one_device or mirrored; none: plain Keras")
    group.addoption("--results", required=True, help="the file that gets a line of JSON a test")
    group.addoption("--only", default=None, help="a file with the ids of the tests to run")


def pytest_configure(config: pytest.Config) -> None:
    for marker in ("requires_trainable_backend", "multi_device"):
        config.addinivalue_line("markers", f"{marker}: Keras' own")
    if not config.getoption("collectonly"):
        config.pluginmanager.register(Conformance(config), "conformance")


class Conformance:
    """Plugs the models, and writes what each test did.

    Args:
        config: holds the options above.
    """

    def __init__(self, config: pytest.Config) -> None:
        import keras

        self._results = Path(config.getoption("results"))
        only = config.getoption("only")
        self._only = None if only is None else set(Path(only).read_text().splitlines())
        self._strategy = _strategy(config.getoption("strategy"))
        self._used = 0
        self._plugged: weakref.WeakSet[Any] = weakref.WeakSet()
        for name in METHODS:
            setattr(keras.Model, name, self._plugging(name, getattr(keras.Model, name)))

    # ------------------------------------------------------------ which tests

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        own = types.SimpleNamespace(skip_if_backend=_skip_if_backend)
        with _trainers_are_models(), _importable("jax"), _importable("conftest", own):
            return (yield)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._only is not None:
            items[:] = [item for item in items if item.nodeid in self._only]
        self._tell(collected=[item.nodeid for item in items])

    # ------------------------------------------------------------ one test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._used = 0
        self._tell(begins=item.nodeid)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        # The test's own function, not what unittest calls before it: `setUp` resets the graph that
        # remembers the scope.
        if self._strategy is not None:
            item.obj = _in_scope(self._strategy, item.obj)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        report: Any = yield
        ends_here = call.when == "call" or (call.when == "setup" and report.outcome != "passed")
        if ends_here:
            why = "" if call.excinfo is None else call.excinfo.exconly()
            self._tell(
                test=item.nodeid,
                outcome=report.outcome,
                models=self._used,
                why=why,
                seconds=round(call.duration, 2),
            )
        return report

    # ------------------------------------------------------------ its models

    def _plugging(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """`keras.Model`'s method of that name, which plugs the model that calls it first."""

        @functools.wraps(original)
        def method(model: Any, *args: Any, **kwargs: Any) -> Any:
            self._used += 1
            if self._strategy is None or model in self._plugged:
                return original(model, *args, **kwargs)
            import tfdist

            tfdist.plug(model)
            self._plugged.add(model)
            return getattr(model, name)(*args, **kwargs)

        return method

    def _tell(self, **what: Any) -> None:
        with self._results.open("a") as file:
            file.write(json.dumps(what) + "\n")


def _strategy(kind: str | None) -> Any:
    if kind is None:
        return None
    import tfdist

    if kind == "mirrored":
        return tfdist.strategy("mirrored", logical_devices=2)
    return tfdist.strategy(kind)


def _in_scope(strategy: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with strategy.scope():
            return function(*args, **kwargs)

    return inside


@contextlib.contextmanager
def _trainers_are_models() -> Iterator[None]:
    """What Keras' tests import as its trainer is, meanwhile, a `keras.Model`.

    `trainer_test.py` mixes the trainer with a layer (`class ExampleModel(Trainer, Dense)`), which
    is no `keras.Model`; nobody writes that, and `plug` takes models.
    """
    import keras
    from keras.src.backend.tensorflow import trainer

    original = trainer.TensorFlowTrainer

    class ModelTrainer(keras.Model):
        def __init__(self) -> None:
            original.__init__(self)

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            for base in cls.__mro__[1:]:  # the layer's own comes before the model's, as it did
                if issubclass(base, keras.layers.Layer) and not issubclass(base, keras.Model):
                    for name in ("build", "call", "compute_output_shape", "get_config"):
                        if name in vars(base) and not _is_set_before(cls, name, keras.Model):
                            setattr(cls, name, vars(base)[name])

    trainer.TensorFlowTrainer = ModelTrainer
    try:
        yield
    finally:
        trainer.TensorFlowTrainer = original


def _is_set_before(cls: type, name: str, end: type) -> bool:
    before = cls.__mro__[: cls.__mro__.index(end)]
    return any(name in vars(base) for base in before)


@contextlib.contextmanager
def _importable(name: str, module: Any = None) -> Iterator[None]:
    """Has `import name` work meanwhile: a test's file imports what only other backends need.

    Keras' own conftest.py is not in its distributions.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module or types.ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


def _skip_if_backend(backend: str, reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(backend == "tensorflow", reason=reason)
