"""Runs a script that never heard of tfdist: `tfdist run --plug script.py`.

    python -m tfdist.training.autoplug script.py --its_own flags
    python -m tfdist.training.autoplug -m package.module --its_own flags

The script is an ordinary Keras 3 program that makes a `tf.distribute` strategy, builds and compiles
its model inside the strategy's scope and calls `fit`. While it runs, and only in its process,
`keras.Model`'s training methods plug the model at its first use if it was made under a strategy of
several replicas, and `MultiWorkerMirroredStrategy` meets the other tasks before it opens its port.
Nothing is imported before the script imports it: its environment variables still count.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import runpy
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from tfdist.exits import tell_by_exit_code

__all__ = ["main", "prepare"]

_METHODS = (
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
)


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function when a module has just been imported for the first time."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then
        self._looking = False

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name or self._looking:
            return None
        self._looking = True  # the other finders are asked, without this one
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            # Only now: a module may be looked for (TensorFlow does) long before it is imported.
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._then()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def prepare() -> None:
    """Has every model plugged that this process trains under a strategy, from now on."""
    if "keras" in sys.modules:
        _plug_keras()
    else:
        sys.meta_path.insert(0, _AfterImport("keras", _plug_keras))


def _plug_keras() -> None:
    import keras
    import tensorflow as tf

    for name in _METHODS:
        setattr(keras.Model, name, _plugging(name, getattr(keras.Model, name)))
    kind = tf.distribute.MultiWorkerMirroredStrategy
    kind.__init__ = _meeting(kind.__init__)


def _plugging(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """The method of that name: of the plugged model, where it was made under a strategy."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        import tensorflow as tf

        strategy = self.distribute_strategy
        servers = isinstance(strategy, tf.distribute.ParameterServerStrategy)
        if strategy.num_replicas_in_sync == 1 and not servers:
            return original(self, *args, **kwargs)
        from tfdist.training.own_methods import reach
        from tfdist.training.plugged import Plugged, plug

        # Not the object's own method: that may be the class's, which has called this one.
        plugged = Plugged.of(plug(self))
        assert plugged is not None
        return reach(plugged, name)(*args, **kwargs)

    return method


def _meeting(original: Callable[..., None]) -> Callable[..., None]:
    """`MultiWorkerMirroredStrategy.__init__`, after the job's tasks have met."""

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        from tfdist import log
        from tfdist.environments import detect_cluster
        from tfdist.strategies import registry
        from tfdist.strategies.multi_worker import joined
        from tfdist.strategies.options import Options

        cluster = detect_cluster()
        made_by_tfdist = bool(kwargs.get("cluster_resolver"))  # it has met the others already
        if cluster is None or len(cluster) == 1 or made_by_tfdist:
            original(self, *args, **kwargs)
            return
        log.set_task(str(cluster.task))
        with joined(cluster, Options().deadline):
            original(self, *args, **kwargs)
        registry.remember(self)

    return init


def main(arguments: Sequence[str]) -> None:
    """Runs a script, or with "-m" a module, as Python would, with every model plugged.

    Args:
        arguments: the script's path, or "-m" and the module's name; then its own arguments.
    """
    arguments = list(arguments)
    as_module = arguments[:1] == ["-m"]
    if as_module:
        arguments = arguments[1:]
    if not arguments:
        sys.exit("usage: python -m tfdist.training.autoplug (script.py | -m module) [arguments]")
    prepare()
    sys.argv = arguments
    if as_module:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        # Python puts the script's folder, not ours, in front.
        import os

        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    tell_by_exit_code()
    main(sys.argv[1:])
