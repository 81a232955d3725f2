"""The strategy of a script under `tfdist run --plug` in a job of several tasks: that of the job.

    no strategy                          ──► tfdist.strategy(), its scope around the whole script,
                                             made just before TensorFlow's first operation
    MirroredStrategy, OneDeviceStrategy  ──► the same, in place of what was asked for
    MultiWorkerMirroredStrategy          ──► itself, once the tasks have met
    ParameterServerStrategy, Server      ──► tfdist.strategy(), and a server that serves it
    tfdist.strategy()                    ──► itself
    other strategies of one machine      ──► refused

A process that is alone, and the evaluator, which stands beside its job, get what they ask for.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdist import log, process
from tfdist.cluster import Cluster, Task
from tfdist.compat.first_operation import before_the_first_operation, enter_for_good
from tfdist.errors import PlugError, StrategyError
from tfdist.strategies import current, registry
from tfdist.structures import P, T

__all__ = ["begin", "has_others", "job_of_several", "prepare", "told_of_loops"]


_process = os.getpid()
_over = False
_whole_script = False
"""Whether the scope of the job's strategy is to hold, in the main thread, for the whole script."""


def prepare() -> None:
    """From now on, the script's strategy is its job's; before TensorFlow's first operation."""
    global _process
    _process = os.getpid()
    places = tf.distribute
    for kind in (places.MirroredStrategy, places.OneDeviceStrategy):
        kind.__new__ = _in_place_of(kind)
    for kind in (places.experimental.CentralStorageStrategy, places.TPUStrategy):
        kind.__init__ = _refusing(kind)
    kind = places.MultiWorkerMirroredStrategy
    kind.__new__ = _the_one_there_is(kind)
    kind.__init__ = _meeting(kind.__init__)
    kind = places.ParameterServerStrategy
    kind.__new__ = _coordinating
    kind.__init__ = _once(kind.__init__)
    places.Server.__init__ = _serving(places.Server.__init__)
    tf.GradientTape.gradient = told_of_loops(
        tf.GradientTape.gradient, ValueError, "DistributedVariable.handle"
    )
    before_the_first_operation(begin)


def has_others() -> bool:
    """Whether other processes work on what this one does, as one of several tasks or beside them.

    A forked child of this process is none of the job's.
    """
    cluster = process.current().cluster if os.getpid() == _process else None
    evaluator = cluster is not None and cluster.task is not None and not _takes_part(cluster.task)
    return evaluator or job_of_several() is not None


def _takes_part(task: Task) -> bool:
    return task.type != "evaluator"


def job_of_several() -> Cluster | None:
    """The job that this process is a task of and does not train alone; None for an evaluator."""
    cluster = process.current().cluster if os.getpid() == _process else None
    if cluster is None or cluster.task is None or not _takes_part(cluster.task):
        return None
    return cluster if sum(map(_takes_part, cluster.tasks)) > 1 else None


def begin() -> bool:
    """Before the script makes anything: makes the job's strategy, unless there is one.

    Only the main thread, in which the script makes its models, can enter the scope there.

    Returns:
        Whether all is done, so that nobody need call this again.
    """
    global _over
    if _over or os.getpid() != _process:
        return True
    if current.being_made():
        return False
    if current.of_the_job() is None and job_of_several() is not None:
        _make("the script has made no strategy: the job's holds for all of it")
    _over = _entered()
    return _over


def _make(why: str) -> tf.distribute.Strategy:
    """Makes the job's strategy, for the whole script; says why on the chief."""
    global _whole_script
    from tfdist.strategies import strategy

    if process.is_chief():
        log.info("%s", why)
    made = strategy()
    _whole_script = True
    return made


def _entered() -> bool:
    """Enters the scope of the job's strategy if it is to hold; False in another thread."""
    global _whole_script
    made = current.of_the_job()
    if not _whole_script or made is None:
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    _whole_script = False
    enter_for_good(made)
    return True


def _in_place_of(kind: type[tf.distribute.Strategy]) -> Callable[..., tf.distribute.Strategy]:
    """`__new__` of a strategy of one machine: in a job of several, the job's strategy."""

    def new(
        cls: type[tf.distribute.Strategy],
        devices: str | Sequence[str] | None = None,
        *_: object,
        **kwargs: Any,
    ) -> tf.distribute.Strategy:
        cluster = job_of_several()
        if cls is not kind or cluster is None or current.being_made():
            return object.__new__(cls)
        made = current.of_the_job() or _make(
            f"{kind.__name__} in a job of {len(cluster)} tasks: the job's strategy takes its "
            "place, for the whole script"
        )
        given = kwargs.get("device", devices)
        asked = [given] if isinstance(given, str) else list(given or ())
        _check_devices(kind.__name__, asked, made)
        _entered()
        return made

    return new


def _check_devices(name: str, asked: Sequence[str], made: tf.distribute.Strategy) -> None:
    """Checks that the job's strategy trains where the script wanted to.

    Raises:
        StrategyError: it takes other devices of this machine.
    """
    if isinstance(made, tf.distribute.ParameterServerStrategy):
        return
    wanted = {_short(device) for device in asked}
    there = {_short(device) for device in made.extended.worker_devices}
    cpus = {"CPU:0"}
    if wanted and wanted != there and not (there == cpus and all("CPU" in one for one in wanted)):
        raise StrategyError(
            f"{name} on {', '.join(sorted(wanted))}, but the workers of this job train on "
            f"{', '.join(sorted(there))} each: leave the devices out, or let each process see only "
            "its own (CUDA_VISIBLE_DEVICES)"
        )


def _short(device: str) -> str:
    kind, _, index = device.upper().strip("/").rpartition("DEVICE:")[2].rpartition(":")
    return f"{kind or 'CPU'}:{index}" if index.isdigit() else f"{index}:0"


def _refusing(kind: type[tf.distribute.Strategy]) -> Callable[..., None]:
    """`__init__` of a strategy that cannot be replaced: refused in a job of several."""
    original = kind.__init__

    @functools.wraps(original)
    def init(self: tf.distribute.Strategy, *args: object, **kwargs: object) -> None:
        cluster = job_of_several()
        if cluster is not None:
            raise StrategyError(
                f"{kind.__name__} trains on this machine alone, but the job has "
                f"{cluster.num_workers} workers, which would each train a model of their own: "
                "make no strategy, or MultiWorkerMirroredStrategy"
            )
        original(self, *args, **kwargs)

    return init


def _the_one_there_is(kind: type[tf.distribute.Strategy]) -> Callable[..., tf.distribute.Strategy]:
    """`MultiWorkerMirroredStrategy.__new__`: the one that this process has, if it has one."""

    def new(cls: type[tf.distribute.Strategy], *_: object, **__: object) -> tf.distribute.Strategy:
        made = current.of_the_job()
        fits = isinstance(made, kind) and not current.being_made()
        return made if fits else object.__new__(cls)

    return new


def _once(original: Callable[..., None]) -> Callable[..., None]:
    """`__init__` of a strategy, unless it has been there before."""

    @functools.wraps(original)
    def init(self: tf.distribute.Strategy, *args: object, **kwargs: object) -> None:
        if current.of_the_job() is not self:
            original(self, *args, **kwargs)

    return init


def _meeting(original: Callable[..., None]) -> Callable[..., None]:
    """`MultiWorkerMirroredStrategy.__init__`, after the job's tasks have met."""

    @functools.wraps(original)
    def init(self: tf.distribute.Strategy, *args: object, **kwargs: object) -> None:
        if current.of_the_job() is self:
            return
        cluster = process.current().cluster if os.getpid() == _process else None
        if current.being_made() or cluster is None or len(cluster) == 1:
            original(self, *args, **kwargs)
            return
        from tfdist.strategies.multi_worker import KIND, joined
        from tfdist.strategies.strategy_options import Options

        process.join(cluster)
        options = Options()
        with current.making(), joined(cluster, options.deadline):
            original(self, *args, **kwargs)
        registry.remember(self)
        current.keep(self, KIND, cluster, options)

    return init


def _coordinating(
    cls: type[tf.distribute.Strategy], *args: object, **kwargs: object
) -> tf.distribute.Strategy:
    """`ParameterServerStrategy.__new__`: that of tfdist, on the chief of a job with servers."""
    cluster = job_of_several()
    if cluster is None or current.being_made():
        return object.__new__(cls)
    if len(args) > 1 or kwargs.get("variable_partitioner"):
        log.info("no variable_partitioner: Keras 3 knows none; tfdist shards large embeddings")
    return _made_for_servers(cluster)


def _serving(original: Callable[..., None]) -> Callable[..., None]:
    """`tf.distribute.Server.__init__`: on a worker or a ps it serves the job, and never returns."""

    @functools.wraps(original)
    def init(self: tf.distribute.Server, *args: object, **kwargs: object) -> None:
        cluster = job_of_several()
        if cluster is not None and not cluster.is_chief and not current.being_made():
            _made_for_servers(cluster)
        original(self, *args, **kwargs)

    return init


def told_of_loops(original: Callable[P, T], kind: type[Exception], says: str) -> Callable[P, T]:
    """A method whose own error about a training loop outside of `fit` names no cause.

    Args:
        original: the method.
        kind: of the error.
        says: what the error has in it.
    """

    @functools.wraps(original)
    def method(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return original(*args, **kwargs)
        except kind as error:
            if says not in str(error) or job_of_several() is None:
                raise
            raise PlugError(
                "a training loop of the script's own, outside of Keras' fit and of strategy.run "
                "(so is a class's own fit that does not call super().fit), in which each worker of "
                "the job would train alone, and servers' workers not at all: give the model a "
                "train_step and call fit, or run the step by strategy.run of a "
                "MultiWorkerMirroredStrategy"
            ) from error

    return method


def _made_for_servers(cluster: Cluster) -> tf.distribute.Strategy:
    """The job's strategy where the script asks for parameter servers; its scope is the script's."""
    made = current.of_the_job()
    if isinstance(made, tf.distribute.ParameterServerStrategy):
        return made
    # Before TensorFlow's own words about it.
    cluster.validate("parameter_server", resolve=not process.names_come_late())
    from tfdist.strategies import strategy

    return strategy("parameter_server")
