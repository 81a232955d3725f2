"""Shares one stream of global batches out over the replicas.

Every worker has the same stream (the same arrays, the same dataset, the same generator) and each
replica takes its rows of every global batch: N workers then see exactly the batches that one
process would, in the same order, the last partial one too. Every step carries, for each replica of
this process, its rows and its *share* of the global batch; and a fingerprint of the batch, by which
the workers find out that their streams differ (an unseeded shuffle is the usual reason).

What a worker reads depends on what it is given: of arrays only its own rows (`arrays`); of a
dataset that maps elements before it batches them it reads all elements and maps its own rows
(`map_pushdown`); of any other dataset, a `PyDataset` or a generator it reads whole batches, since
only the user's code can tell which elements make one, and then takes its rows. A dataset that is
the same in every epoch can be read once: `cache=True` keeps this process's rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from tfdist import log
from tfdist.compat import keras_data, tf_datasets
from tfdist.errors import DataError
from tfdist.strategies import own_gpus
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Count, Data, Nest
from tfdist.training.data import python_random, resident
from tfdist.training.data.arrays import ArrayRows
from tfdist.training.data.fingerprint import fingerprint_of
from tfdist.training.data.generators import GeneratorBatches
from tfdist.training.data.map_pushdown import share_out_before_maps
from tfdist.training.data.position import Position, RandomState
from tfdist.training.data.sharding import (
    all_to_one_replica,
    bounds_of,
    check_leaves,
    make_step,
)
from tfdist.training.data.stream import (
    AllGatherNumbers,
    Step,
    Stream,
    leaves,
    map_leaves,
    rows_in,
    slice_rows,
    without_optionals,
)

__all__ = ["GlobalBatches", "share_out", "to_step"]


def share_out(dataset: tf.data.Dataset, layout: ReplicaLayout) -> tf.data.Dataset:
    """Turns a dataset of global batches into one of `Step`s for this process's replicas."""
    if layout.replicas == 1:
        return all_to_one_replica(dataset)
    return dataset.map(tf_datasets.whole_elements(dataset, lambda batch: to_step(batch, layout)))


def to_step(batch: Nest, layout: ReplicaLayout) -> Step:
    """Takes this process's rows from a global batch (tensors, in any structure)."""
    bounds = bounds_of(_rows(batch), layout)
    parts = [
        map_leaves(functools.partial(slice_rows, low=low, high=high), batch)
        for low, high in bounds.rows
    ]
    several = layout.workers > 1
    fingerprint = fingerprint_of(batch) if several else tf.zeros((), tf.int64)
    return make_step(parts, bounds, fingerprint)


def _on_the_host() -> contextlib.AbstractContextManager[None]:
    """For what makes datasets: TensorFlow would copy their arrays to a GPU, and back again."""
    return tf.device("CPU:0") if own_gpus.visible() else contextlib.nullcontext()


def _rows(batch: Nest) -> Count:
    """The number of rows of a batch: a Python integer where the shape tells, else an int64."""
    there = leaves(batch)
    check_leaves(there)
    static = {leaf.shape[0] for leaf in there if leaf.shape.rank is not None}
    if len(static) == 1 and None not in static:
        return int(static.pop())
    return rows_in(batch)


class GlobalBatches(Stream):
    """The data of one `fit`, `evaluate` or `predict`, the same stream on every worker.

    Args:
        layout: the replicas.
        x, y, sample_weight, batch_size, steps, shuffle, class_weight: as in `keras.Model.fit`;
            `batch_size` is the global batch's.
        cache: keeps what this process's replicas get of a `tf.data.Dataset` in memory, and reads
            the dataset only once; every epoch then has the first one's batches, in its order.
        gpus: of this process's replicas, where steps may find arrays there; see `resident`.
        on_device: whether arrays are put there; None: where they are small.

    Raises:
        DataError: the data cannot be shared out, or an endless dataset cannot be kept.
    """

    is_global = True

    def __init__(
        self,
        layout: ReplicaLayout,
        x: Data,
        y: Data = None,
        sample_weight: Data = None,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool = False,
        class_weight: Mapping[int, float] | None = None,
        cache: bool = False,
        gpus: Sequence[str] = (),
        on_device: bool | None = None,
    ) -> None:
        if isinstance(x, tf.distribute.DistributedDataset):
            raise DataError(
                "a distributed dataset was given; give the dataset itself, batched by the global "
                "batch size (tfdist shares it out), or a function of tf.distribute.InputContext"
            )
        super().__init__(layout, steps)
        self._generator = GeneratorBatches(x) if isinstance(x, types.GeneratorType) else None
        self._adapter = keras_data.data_adapter(
            x if self._generator is None else self._generator.peek(),
            y,
            sample_weight,
            batch_size=batch_size,
            steps_per_epoch=self.steps_asked,
            shuffle=shuffle,
            class_weight=class_weight,
        )
        if self._generator is not None:
            keras_data.read_by(self._adapter, self._generator.source)
        self._data = x
        self._made_ahead = keras_data.makes_ahead(self._adapter)
        # Keras draws the order of a PyDataset's batches from Python's own random numbers.
        self._shuffles_in_python = bool(shuffle) and isinstance(x, keras.utils.PyDataset)
        self._shuffle = shuffle
        with _on_the_host():
            self._read(gpus, on_device)
            steps_ = self._shared_out(0)
        infinite = int(self._batches.cardinality()) == tf.data.INFINITE_CARDINALITY
        if cache and isinstance(x, tf.data.Dataset):
            if infinite:
                raise DataError(
                    "cache_data=True with a dataset that never ends: it would fill the memory; "
                    "leave out its .repeat() and steps_per_epoch, or leave out cache_data"
                )
            steps_ = steps_.cache()
        self._cached = cache
        self._steps = steps_
        self._python: RandomState | None = None
        self.num_batches = self._adapter.num_batches
        self.counted = self.num_batches is not None or (infinite and self.steps_asked is not None)

    def _read(self, gpus: Sequence[str], on_device: bool | None) -> None:
        """Makes the dataset of global batches."""
        self.on_devices, self._rows = (), None
        to_gpus, several = bool(gpus or on_device), self.layout.replicas > 1
        arrays = keras_data.arrays_of(self._adapter) if to_gpus or several else None
        if on_device and arrays is None:
            raise DataError(
                "data_on_device=True, but the data are no arrays: batches of a dataset travel one "
                "step ahead; leave it out, or give the arrays themselves"
            )
        if to_gpus and arrays is not None:
            self.on_devices = resident.put_on(gpus, arrays, on_device)
        if arrays is None or not (self.on_devices or several):
            self._batches = self._adapter.get_tf_dataset()
        else:
            self._rows = ArrayRows(self._adapter, arrays, self._shuffle)
            self._batches = self._rows.whole()

    def _shared_out(self, skip: int) -> tf.data.Dataset:
        """The steps of this process, without the first."""
        if self._rows is not None:
            return self._rows.share_out(self.layout, skip, numbers_alone=bool(self.on_devices))
        batches = tf_datasets.skip_batches(self._batches, skip) if skip else self._batches
        steps = share_out_before_maps(batches, self.layout)
        return share_out(batches, self.layout) if steps is None else steps

    @property
    def batch_size(self) -> int | None:
        """Rows of a full global batch, where it is known beforehand."""
        size = self._adapter.batch_size
        if size is None and isinstance(self._data, tf.data.Dataset):
            size = tf_datasets.batch_size(self._data)
        return None if size is None else int(size)

    @property
    def may_leave_replicas_out(self) -> bool:
        """Whether some batch may have fewer rows than there are replicas."""
        if self.layout.replicas == 1:
            return False
        smallest = keras_data.smallest_batch(self._adapter)
        if smallest is not None:
            return smallest < self.layout.replicas
        first = leaves(self._batches.element_spec)[0]
        static = first.shape[0] if first.shape.rank else None
        return static is None or static < self.layout.replicas

    def sample_batch(self) -> Nest:
        """Specs of one batch (or one real batch where the specs do not tell the ranks)."""
        spec = without_optionals(self._batches.element_spec)
        if any(leaf.shape.rank is None for leaf in leaves(spec)):
            return next(iter(self._batches))
        return spec

    def varies_with(self) -> set[str]:
        """What may make two workers read differently, see `tf_datasets.varies_with`."""
        return tf_datasets.varies_with(self._batches)

    def begin_epoch(self, all_gather: AllGatherNumbers) -> None:
        """Starts an epoch: from the beginning, or where the last one stopped with `steps` given."""
        if self._shuffles_in_python and self.layout.workers > 1:
            python_random.follow_the_chief(all_gather)
        before = python_random.get_state() if self._made_ahead else None
        self._call_hook("on_epoch_begin")
        super().begin_epoch(all_gather)
        if before is not None and self._python is not None and not self._seen:
            # The enqueuer's thread, which the hook has started, draws the order at once.
            self._python = [before[0], self._python[1]]

    def end_epoch(self) -> None:
        """Ends an epoch."""
        super().end_epoch()
        self._call_hook("on_epoch_end")

    def rewind(self) -> None:
        """Makes the next epoch begin at the stream's first batch."""
        super().rewind()
        self._call_hook("on_epoch_end")  # as Keras does before `fit` and at every `evaluate`

    def _call_hook(self, name: str) -> None:
        self._events.append(name)
        getattr(self._adapter, name)()

    def _hook_again(self, name: str) -> None:
        """Calls a hook that was called in a run before this one.

        That of the data alone where threads or processes make the batches ahead: what they have
        made and nobody has taken is the next pass's, for Keras, and an earlier pass takes nothing
        here.
        """
        if not self._made_ahead:
            self._call_hook(name)
        else:
            self._events.append(name)
            getattr(self._data, name)()

    def make_iterator(self, skip: int = 0) -> tf.data.Iterator:
        """Begins the stream anew, after its first batches."""
        if self._generator is not None:
            return self._go_on_with(self._generator, skip)
        self._python = python_random.get_state()
        with _on_the_host():
            if skip and not self._cached:
                return iter(self._shared_out(skip).prefetch(2))
            return iter((self._steps.skip(skip) if skip else self._steps).prefetch(2))

    def _go_on_with(self, generator: GeneratorBatches, skip: int) -> tf.data.Iterator:
        """Reads what passes before have left of a generator, which gives each batch once."""
        self._python = self._python or python_random.get_state()  # it goes on drawing from there
        generator.took(skip)
        generator.begin()
        with _on_the_host():
            return iter(self._steps.prefetch(2))

    @property
    def step_spec(self) -> Step:
        """Specs of every step."""
        return self._steps.element_spec

    # ------------------------------------------------------------ to resume

    @property
    def source(self) -> tf.data.Dataset:
        """The dataset that the stream is made of."""
        return self._batches

    @property
    def is_cached(self) -> bool:
        """Whether the first pass is kept, for the others to be its copies."""
        return self._cached or super().is_cached

    @property
    def makes_every_batch_again(self) -> bool:
        """Whether only the batches of a pass tell how the next one goes."""
        hooks_do = isinstance(self._data, keras.utils.PyDataset)
        return not hooks_do and super().makes_every_batch_again

    @property
    def passes_are_alike(self) -> bool:
        """Whether an earlier pass leaves nothing that the next one would take up."""
        return self._made_ahead

    @functools.cached_property
    def _is_python(self) -> bool:
        """Whether Python code makes the batches: a `PyDataset`, a generator."""
        return bool(self.varies_with() & tf_datasets.IN_PYTHON)

    def position(self, begun: int) -> Position:
        """Returns where the stream stands."""
        python = self._python if self._is_python else None
        numbers = bool(self.on_devices)
        return dataclasses.replace(super().position(begun), python=python, numbers=numbers)

    def go_to(self, position: Position) -> None:
        """Does what has been done to the stream of another run; see `Stream`.

        What an iterator has in its buffers is read as what it is: where arrays lay on a GPU there,
        and do not here, steps take their rows by number from the host's memory, and the other way.
        """
        if position.iterator is not None and position.numbers != bool(self.on_devices):
            with _on_the_host():
                self._read([resident.HOST] * self.layout.local * position.numbers, position.numbers)
                self._steps = self._shared_out(0)
        super().go_to(position)
        self._python = position.python or self._python
        if self._made_ahead and self.steps_asked not in (None, self.num_batches):
            log.warning(
                "a PyDataset with workers=... and steps_per_epoch=%d of its %s batches keeps those "
                "that an epoch has left for the next one, as Keras does, but not in a checkpoint: "
                "if on_epoch_end changes the data, the resumed run gets them as they are now",
                self.steps_asked,
                self.num_batches,
            )

    def _prepare_last_pass(self, position: Position) -> None:
        if position.python is not None:
            python_random.set_state(position.python)

    def pass_again(self, taken: int) -> None:
        """Draws what an earlier pass has drawn, of which so many batches were taken."""
        if self._generator is None:
            super().pass_again(taken)
        else:
            self._events.append(taken)
            self._generator.took(taken)

    def take(self, count: int, all_gather: AllGatherNumbers) -> list[Step]:
        """Takes the next steps that every worker has, up to `count`.

        Raises:
            DataError: one worker's stream ends before another's.
        """
        if self._generator is not None and not self._generator.go_on:  # others have read it since
            self._drop_iterator()
            self._iterator, self._pulled = self.make_iterator(), []
        while len(self._pulled) < count:
            step = next(self.iterator, None)
            if step is None and self._generator is not None and not self._generator.go_on:
                raise DataError(
                    "two threads train on one generator at the same time, of which each batch "
                    "comes once: give each its own"
                )
            if step is None:
                break
            self._pulled.append(step)
        there = len(self._pulled)
        table = all_gather([min(there, count), there < count])
        counts, ended = table[:, 0].astype(int), table[:, 1] > 0
        if ended.any() and len(set(counts)) > 1:
            left = ", ".join(f"worker {i}: {n}" for i, n in enumerate(counts))
            raise DataError(
                f"the workers' data end at different steps (batches left: {left}): every worker "
                "must read the same global batches, in the same order"
            )
        self.ended = bool(ended.any())
        count = int(counts.min())
        used, self._pulled = self._pulled[:count], self._pulled[count:]
        self.took(count)
        if self._generator is not None:
            self._generator.took(count)
        return used
