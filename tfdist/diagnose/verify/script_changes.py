"""Changes to a program while it runs, each of which takes away one thing that may make N differ.

They are those of `change_names`.

The questions that a script asks are noted in any run, with their lines.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import random
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfdist
from tfdist.compat.first_operation import before_the_first_operation
from tfdist.diagnose.verify.change_names import (
    ALONE,
    DRAWS_STILL,
    FIXED_ENTROPY,
    LAYERS_STILL,
    NO_OWN_SUMS,
    SAME_RANK,
)
from tfdist.diagnose.verify.recorder import Recorder
from tfdist.diagnose.verify.records import LATE, Record
from tfdist.diagnose.verify.user_lines import asker, line_of

__all__ = [
    "give_all_to_one",
    "install",
    "install_options",
    "note_late_strategies",
    "stands_still",
]

_OF_WORKERS = (None, "multi_worker_mirrored")

_STILL = tuple(
    kind
    for name in (
        "Dropout",
        "AlphaDropout",
        "GaussianDropout",
        "GaussianNoise",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "RandomBrightness",
        "RandomColorDegeneration",
        "RandomColorJitter",
        "RandomContrast",
        "RandomErasing",
        "RandomFlip",
        "RandomGaussianBlur",
        "RandomHue",
        "RandomInvert",
        "RandomPosterization",
        "RandomRotation",
        "RandomSaturation",
        "RandomSharpness",
        "RandomShear",
        "RandomTranslation",
        "RandomZoom",
        "CutMix",
        "MixUp",
        "RandAugment",
        "AugMix",
    )
    if (kind := getattr(keras.layers, name, None)) is not None
)

_JOB_VARIABLES = {
    "TF_CONFIG": None,
    "TFDIST_TASK": None,
    "TFDIST_CLUSTER": None,
    "RANK": "0",
    "WORLD_SIZE": "1",
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "1",
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "1",
    "PMI_RANK": "0",
}
"""Variables that tell who a process is in its job, and what one that is alone would read."""


def stands_still(layer: keras.Layer, changes: tuple[str, ...]) -> bool:
    """Whether a layer is to return its inputs."""
    return LAYERS_STILL in changes and isinstance(layer, _STILL)


def install(recorder: Recorder, changes: tuple[str, ...], together: bool) -> None:
    """Makes changes to this process, and has the questions of the script noted.

    Args:
        recorder: notes them.
        changes: of those above.
        together: whether this process is a worker of a job.
    """
    _Questions(recorder, changes if together else ()).install()
    _install_draws(recorder, DRAWS_STILL in changes)
    _install_entropy(recorder, FIXED_ENTROPY in changes)
    _install_own_sums(recorder, NO_OWN_SUMS in changes and together)


def give_all_to_one() -> None:
    """Has the first replica take all rows of a batch; the others compute the same for nothing."""
    from tfdist.strategies.layout import ReplicaLayout
    from tfdist.training.data import arrays, global_batches, map_pushdown
    from tfdist.training.data.sharding import Bounds

    def bounds_of(total: Any, layout: ReplicaLayout) -> Bounds:
        replicas = layout.local_replicas
        sizes = [total if replica == 0 else total * 0 for replica in replicas]
        return Bounds(total, [total * 0 for _ in sizes], sizes, [(total * 0, total) for _ in sizes])

    for module in (arrays, global_batches, map_pushdown):
        module.bounds_of = bounds_of  # type: ignore[attr-defined]
    global_batches.GlobalBatches.may_leave_replicas_out = property(  # type: ignore[method-assign, assignment]
        lambda self: self.layout.replicas > 1
    )


def install_options(recorder: Recorder, plain: bool) -> None:
    """Has options of `tfdist.plug` that change the results noted, or left out where `plain`."""
    from tfdist.training.plug_options import TrainingOptions
    from tfdist.training.plugged import Plugged

    original = Plugged.__init__

    @functools.wraps(original)
    def init(self: Plugged, model: keras.Model, options: TrainingOptions) -> None:
        if options.local_steps > 1 or options.gradient_dtype is not None:
            recorder.record.note("gives plug options that change the results", line_of())
            if plain:
                options = dataclasses.replace(
                    options,
                    local_steps=1,
                    outer_learning_rate=1.0,
                    outer_momentum=0.0,
                    gradient_dtype=None,
                    error_feedback=False,
                )
        original(self, model, options)

    Plugged.__init__ = init  # type: ignore[method-assign]


def note_late_strategies(record: Record) -> None:
    """Has a strategy noted that comes too late for several workers, in a run of one process.

    A run of several has theirs made before the first operation, as under `tfdist run --plug`.
    """
    has_run: list[bool] = []

    def note_operation() -> bool:
        has_run.append(True)
        return True

    before_the_first_operation(note_operation)
    original = tfdist.strategy
    first = itertools.count()

    @functools.wraps(original)
    def strategy(*args: Any, **kwargs: Any) -> tf.distribute.Strategy:
        kind = args[0] if args else kwargs.get("kind")
        if kind in _OF_WORKERS and not next(first) and has_run:  # a second one is the first again
            record.note(LATE, line_of())
        return original(*args, **kwargs)

    tfdist.strategy = strategy


class _Questions:
    """Who asks who this process is, and what it hears.

    Args:
        recorder: notes it.
        changes: `ALONE`, `SAME_RANK` or none of them.
    """

    def __init__(self, recorder: Recorder, changes: tuple[str, ...]) -> None:
        self._record = recorder.record
        self._alone = ALONE in changes
        self._first = SAME_RANK in changes

    def install(self) -> None:
        """Stands in for what is asked."""
        kind: Any = type(os.environ)
        kind.__getitem__ = self._variable(kind.__getitem__)
        strategy: Any = tf.distribute.Strategy.__mro__[1]
        context: Any = tf.distribute.ReplicaContext.__mro__[1]
        count = "num_replicas_in_sync"
        for owner in (strategy, context):
            setattr(owner, count, self._property(owner, count, 1, of_rank=False))
        rank = "replica_id_in_sync_group"
        setattr(context, rank, self._property(context, rank, 0, of_rank=True))
        resolver: Any = tf.distribute.cluster_resolver.ClusterResolver
        for place in (resolver, tf.distribute.cluster_resolver.TFConfigClusterResolver):
            for name in ("task_id", "task_type"):
                if isinstance(vars(place).get(name), property):
                    alone = 0 if name == "task_id" else "worker"
                    setattr(place, name, self._property(place, name, alone, of_rank=True))
        self._install_in_tfdist()

    def _install_in_tfdist(self) -> None:
        import tfdist
        from tfdist import process
        from tfdist.cluster import Cluster

        chief = process.is_chief

        def is_chief() -> bool:
            line = asker()
            if line:
                self._record.note("asks whether it is the chief", line)
            return True if line and (self._alone or self._first) else chief()

        process.is_chief = is_chief
        vars(tfdist)["is_chief"] = is_chief
        cluster_of = Cluster.from_environment.__func__  # type: ignore[attr-defined]

        def from_environment(cls: type[Cluster], *args: Any, **kwargs: Any) -> Cluster | None:
            line = asker()
            found: Cluster | None = cluster_of(cls, *args, **kwargs)
            if not line:
                return found
            self._record.note("asks for its cluster", line)
            if self._alone:
                return None
            return found.with_task(str(found.chief)) if found and self._first else found

        Cluster.from_environment = classmethod(from_environment)  # type: ignore[assignment]

    def _variable(self, original: Callable[..., str]) -> Callable[..., str]:
        def read(environ: Any, name: str) -> str:
            if name in _JOB_VARIABLES and (line := asker()):
                self._record.note(f"reads {name}", line)
                if self._alone:
                    alone = _JOB_VARIABLES[name]
                    if alone is None or name not in environ.copy():
                        raise KeyError(name)
                    return alone
                if self._first:
                    return _as_first(name, original(environ, name))
            return original(environ, name)

        return read

    def _property(self, owner: Any, name: str, alone: Any, *, of_rank: bool) -> property:
        original = next(vars(kind)[name] for kind in owner.__mro__ if name in vars(kind))

        def read(thing: Any) -> Any:
            if line := asker():
                self._record.note(f"asks for {name}", line)
                if self._alone or (self._first and of_rank):
                    return alone
            return original.__get__(thing)

        return property(read)


def _as_first(name: str, value: str) -> str:
    """A variable as the first worker reads it."""
    if name == "TF_CONFIG":
        import json

        config = json.loads(value)
        kinds = config.get("cluster", {})
        config["task"] = {"type": "chief" if "chief" in kinds else "worker", "index": 0}
        return json.dumps(config)
    return "worker:0" if name == "TFDIST_TASK" else "0" if "RANK" in name else value


def _install_own_sums(recorder: Recorder, still: bool) -> None:
    context: Any = tf.distribute.ReplicaContext
    rooms = ("replica/collectives.py", "replica/step.py", "peers/packing.py")
    passed_on = tuple(f"/tfdist/training/{room}" for room in rooms)
    original = context.all_reduce

    @functools.wraps(original)
    def all_reduce(self: Any, reduce_op: Any, value: Any, options: Any = None) -> Any:
        if line := asker(beside=passed_on):
            recorder.record.note("sums over replicas", line)
            if still:
                return value
        return original(self, reduce_op, value, options)

    context.all_reduce = all_reduce


# ------------------------------------------------------------ random numbers of a step

_DRAWS: dict[str, Callable[..., Any]] = {
    "random_uniform": lambda shape, dtype, **_: tf.fill(shape, tf.constant(0.5, dtype)),
    "random_standard_normal": lambda shape, dtype, **_: tf.zeros(shape, dtype),
    "truncated_normal": lambda shape, dtype, **_: tf.zeros(shape, dtype),
    "random_uniform_int": lambda shape, minval, maxval, **_: tf.fill(shape, (minval + maxval) // 2),
    "random_shuffle": lambda value, **_: value,
}
"""TensorFlow's draws that keep a state of their own, and what takes their place."""


def _install_draws(recorder: Recorder, still: bool) -> None:
    from tfdist.compat import tf_random

    for name, instead in _DRAWS.items():

        def noted(
            original: Callable[..., Any], instead: Callable[..., Any] = instead
        ) -> Callable[..., Any]:
            def draw(*args: Any, **kwargs: Any) -> Any:
                if not recorder.traces:
                    return original(*args, **kwargs)
                recorder.record.note("draws by tf.random", line_of(sys._getframe(1)))
                return instead(*args, **kwargs) if still else original(*args, **kwargs)

            return draw

        tf_random.replace_draw(name, noted)


# ------------------------------------------------------------ what no seed fixes


def _install_entropy(recorder: Recorder, fixed: bool) -> None:
    """Has what no seed fixes noted, and given the same values in all processes where `fixed`."""
    record = recorder.record
    numbers = itertools.count(12345)

    def noted(
        owner: Any, name: str, what: str, instead: Callable[..., Any], unseeded: bool = False
    ) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = [*args[isinstance(owner, type) :], *kwargs.values()]
            is_seeded = unseeded and given and given[0] is not None
            if not is_seeded and (line := asker()):
                record.note(what, line)
                if fixed:
                    return instead(original, *args, **kwargs)
            return original(*args, **kwargs)

        setattr(owner, name, call)

    def seeded(original: Callable[..., Any], *_: Any, **__: Any) -> Any:
        return original(next(numbers))

    def some_bytes(_: Any, count: int = 16, *__: Any) -> bytes:
        return np.random.Generator(np.random.PCG64(next(numbers))).bytes(count)

    drawn = "draws what no seed fixes"
    for name in ("default_rng", "seed"):
        noted(np.random, name, drawn, seeded, unseeded=True)
    noted(random, "seed", drawn, seeded, unseeded=True)
    noted(
        random.Random,
        "__init__",
        drawn,
        lambda original, self, *_: original(self, next(numbers)),
        unseeded=True,
    )
    noted(os, "urandom", drawn, some_bytes)
    random._urandom = os.urandom  # type: ignore[attr-defined]  # of SystemRandom
    noted(uuid, "uuid4", drawn, lambda *_: uuid.UUID(int=next(numbers)))
    clock = "reads the clock or an id of the process"
    noted(os, "getpid", clock, lambda *_: 4321)
    noted(time, "time", clock, lambda *_: 1.7e9)
    noted(time, "time_ns", clock, lambda *_: 1_700_000_000_000_000_000)
    generator: Any = tf.random.Generator
    from_entropy = generator.from_non_deterministic_state.__func__

    def from_non_deterministic_state(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if line := asker():
            record.note(drawn, line)
            if fixed:
                return cls.from_seed(next(numbers))
        return from_entropy(cls, *args, **kwargs)

    generator.from_non_deterministic_state = classmethod(from_non_deterministic_state)
