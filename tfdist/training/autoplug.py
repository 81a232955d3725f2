"""Runs a script that never heard of tfdist: `tfdist run --plug script.py`.

    python -m tfdist.training.autoplug script.py --its_own flags
    python -m tfdist.training.autoplug --options local_steps=4 -m package.module --its_own flags

The script is an ordinary Keras 3 program that builds and compiles a model and calls `fit`. While it
runs, and only in its process, `keras.Model`'s methods that train and write files plug the model at
its first use, if others train it too; `autostrategy` sees to it that they do. Nothing is imported
before the script imports it: its environment variables still count.
"""

from __future__ import annotations

import contextlib
import functools
import random
import runpy
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import wrapt

from tfdist import process
from tfdist.errors import TfdistError
from tfdist.exits import tell_by_exit_code
from tfdist.strategies import current
from tfdist.structures import P, T
from tfdist.training.plug_options import keywords_from

if TYPE_CHECKING:
    import keras

__all__ = ["main", "prepare"]


_TRAINING = ("fit", "train_on_batch")
_METHODS = (*_TRAINING, "evaluate", "predict", "test_on_batch", "predict_on_batch")
_WRITERS = ("save", "save_weights", "export")


def prepare(options: Mapping[str, Any] = MappingProxyType({}), *, plugs_lone: bool = False) -> None:
    """Has every model plugged that this process trains under a strategy, from now on.

    Args:
        options: what `tfdist.plug` takes, for each of them.
        plugs_lone: whether those that nobody else trains are plugged, too: to be measured alike.
    """
    _draw_the_same_numbers()
    wrapt.register_post_import_hook(lambda _: _prepare_tensorflow(), "tensorflow")
    wrapt.register_post_import_hook(lambda _: _plug_keras(options, plugs_lone), "keras")


def _draw_the_same_numbers() -> None:
    """Seeds Python's and NumPy's global random numbers alike in all tasks of a job of several.

    A script that sets no seed shuffles and splits its data with them, which must come out the same
    on every worker. (TensorFlow's are seeded when the tasks meet.)
    """
    with contextlib.suppress(TfdistError):  # told when the strategy is made
        cluster = process.current().cluster
        if cluster is None or len(cluster.tasks) < 2:
            return
        seed = zlib.crc32(repr(sorted(cluster.jobs.items())).encode())
        random.seed(seed)
        wrapt.register_post_import_hook(lambda numpy: numpy.random.seed(seed), "numpy")


def _prepare_tensorflow() -> None:
    from tfdist.training import autostrategy

    autostrategy.prepare()


def _plug_keras(options: Mapping[str, Any], plugs_lone: bool) -> None:
    import keras

    from tfdist.training import autostrategy

    for name in _METHODS:
        setattr(keras.Model, name, _plugging(name, getattr(keras.Model, name), options, plugs_lone))
    for name in _WRITERS:
        setattr(keras.Model, name, _writing(getattr(keras.Model, name)))
    optimizer = next(k for k in keras.optimizers.Optimizer.__mro__ if "apply" in vars(k))
    optimizer.apply = autostrategy.told_of_loops(
        optimizer.apply, AttributeError, "'NoneType' object has no attribute 'merge_call'"
    )
    # Who makes its first variable is in the middle of it when TensorFlow's first operation begins.
    keras.Layer.__new__ = _beginning(keras.Layer.__new__)
    keras.Variable.__init__ = _beginning(keras.Variable.__init__)


def _beginning(original: Callable[P, T]) -> Callable[P, T]:
    """A method that makes the job's strategy first, where the script has made none."""
    from tfdist.training import autostrategy

    @functools.wraps(original)
    def method(*args: P.args, **kwargs: P.kwargs) -> T:
        autostrategy.begin()
        return original(*args, **kwargs)

    return method


def _plugging(
    name: str, original: Callable[..., T], options: Mapping[str, Any], plugs_lone: bool
) -> Callable[..., T]:
    """The method of that name: of the plugged model, where others train it too."""

    @functools.wraps(original)
    def method(self: keras.Model, *args: object, **kwargs: object) -> T:
        # A plugged model has methods of its own: whoever comes here then means the class's.
        is_plugged = plugs_lone or "_tfdist_plugged" in vars(self)
        if not is_plugged and not _is_shared(self, name):
            return original(self, *args, **kwargs)
        from tfdist.training.own_methods import reach
        from tfdist.training.plugged import Plugged
        from tfdist.training.plugging import plug

        plugged = Plugged.of(self)
        if plugged is None:
            plugged = Plugged.of(plug(self, **options))
            for one in (*_METHODS, *_WRITERS):
                object.__setattr__(self, one, _outside(getattr(self, one)))
        assert plugged is not None
        # Not the object's own method: that may be the class's, which has called this one.
        return _outside(reach(plugged, name))(*args, **kwargs)

    return method


def _outside(method: Callable[P, T]) -> Callable[P, T]:
    """A plugged model's method, called outside of the scope that holds for the whole script."""
    from tfdist.compat.first_operation import left_for_a_while

    @functools.wraps(method)
    def outside(*args: P.args, **kwargs: P.kwargs) -> T:
        with left_for_a_while():
            return method(*args, **kwargs)

    return outside


def _writing(original: Callable[..., None]) -> Callable[..., None]:
    """A method that writes a file, of a model that is not plugged: safe on several workers."""

    @functools.wraps(original)
    def method(self: keras.Model, filepath: object, *args: object, **kwargs: object) -> None:
        from tfdist.compat.first_operation import left_for_a_while
        from tfdist.training import autostrategy

        cluster = autostrategy.job_of_several()
        if "_tfdist_plugged" in vars(self) or cluster is None or "ps" in cluster.jobs:
            return original(self, filepath, *args, **kwargs)
        from tfdist.training.checkpointing.replacing import write_alone

        with left_for_a_while():
            write_alone(
                filepath, lambda path: original(self, path, *args, **kwargs), cluster.is_chief
            )
        return None

    return method


def _is_shared(model: keras.Model, method: str) -> bool:
    """Whether several replicas, servers or tasks have a part in what a model's method does."""
    from tfdist.strategies.registry import layout_of
    from tfdist.training import autostrategy
    from tfdist.training.families import family_of

    strategy = model.distribute_strategy
    if strategy is current.of_the_job():
        return True
    if family_of(strategy).is_shared_out(layout_of(strategy)):
        return True
    # A model of none: to train it here alone is refused; an evaluator's `fit` scores checkpoints.
    return method in _TRAINING and autostrategy.has_others()


def main(arguments: Sequence[str]) -> None:
    """Runs a script, or with "-m" a module, as Python would, with every model plugged.

    Args:
        arguments: "--options" and plug's, where there are any; the script's path, or "-m" and the
            module's name; then its own arguments.
    """
    arguments = list(arguments)
    options: dict[str, Any] = {}
    if arguments[:1] == ["--options"]:
        options = keywords_from(arguments[1])
        arguments = arguments[2:]
    as_module = arguments[:1] == ["-m"]
    if as_module:
        arguments = arguments[1:]
    if not arguments:
        sys.exit("usage: python -m tfdist.training.autoplug (script.py | -m module) [arguments]")
    prepare(options)
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
