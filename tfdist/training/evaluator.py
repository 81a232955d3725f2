"""The evaluator's `fit`: it scores the checkpoints of a job that trains elsewhere.

    TF_CONFIG={"cluster": {...}, "task": {"type": "evaluator", "index": 0}} python train.py

The evaluator runs the same script as the other tasks, beside their cluster, on its own devices. It
only reads the directory of the `Checkpoint` callback: `checkpoint.json` names the newest whole
checkpoint, the run that writes, and, at last, that this run has ended well.

A directory may still hold an earlier run's end. The evaluator takes an end for that of its own job
where the run began after this process did (by the machines' clocks) or after this `fit` had looked
for the first time (by the run's name). Otherwise it gives the chief the time to begin: that of the
rendezvous and a minute (180 s by default). If nothing has begun by then, there is nothing to wait
for: it scores the last checkpoint, unless it has, and ends.
"""

from __future__ import annotations

import contextlib
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import tensorflow as tf

from tfdist import log
from tfdist.errors import CheckpointError, PlugError
from tfdist.strategies.strategy_options import Options
from tfdist.structures import Callbacks, Nest
from tfdist.training.checkpointing.damage import damage_of
from tfdist.training.checkpointing.loading import in_short, load_variables
from tfdist.training.checkpointing.sharded_folder import is_sharded
from tfdist.training.checkpointing.store import Index, Saved, Store
from tfdist.training.data.stream import Stream
from tfdist.training.embeddings.table_slots import plain_variables
from tfdist.training.loop import callback_routing
from tfdist.training.loop.epoch_loop import Loop

__all__ = ["Evaluator"]

_POLL_SECONDS = 0.5
_QUIET_SECONDS = 60.0
_TO_BUILD_SECONDS = 60.0
_TRIES = 20
_DAMAGED = (OSError, ValueError, KeyError, zipfile.BadZipFile)

_over: set[str] = set()
"""The runs whose end this process has seen: a second `fit` of the script waits for another."""


class Evaluator:
    """Scores each new checkpoint of a job until its training has ended well.

    A checkpoint that came while an older one was scored is taken next; those between are left out.
    The last one is always scored. Its weights stay in the model. Of the user's callbacks only
    `Checkpoint` (where to look) and `TensorBoard` (where to write: scalars `epoch_loss` and so on,
    under `<log_dir>/evaluator`) mean something here; the others are not called.

    Args:
        validation: what to score on.
        callbacks: what `fit` was given.
        grace: seconds to wait for a run to begin where the directory holds only the end of one that
            is perhaps an earlier job's; by default the rendezvous' deadline and a minute.

    Raises:
        PlugError: there are no validation data.
        CheckpointError: there is not exactly one `Checkpoint` callback.
    """

    def __init__(
        self, validation: Stream | None, callbacks: Callbacks, *, grace: float | None = None
    ) -> None:
        if validation is None:
            raise PlugError(
                "fit without validation_data on the evaluator, which scores checkpoints on them: "
                "give fit validation_data, or start the job without an evaluator"
            )
        flat = callback_routing.callbacks_for(callbacks, is_chief=True)
        keepers = [c for c in flat if isinstance(getattr(c, "store", None), Store)]
        if len(keepers) != 1:
            raise CheckpointError(
                f"fit with {len(keepers)} Checkpoint callbacks on the evaluator, which scores what "
                "one of them writes: give fit one tfdist.callbacks.Checkpoint(directory), or start "
                "the job without an evaluator"
            )
        self._store: Store = keepers[0].store
        self._resumes = bool(getattr(keepers[0], "resume", True))
        self._validation = validation
        boards = [c for c in flat if isinstance(c, keras.callbacks.TensorBoard)]
        self._board = os.path.join(boards[0].log_dir, "evaluator") if boards else None
        self._grace = Options().deadline + _TO_BUILD_SECONDS if grace is None else grace

    def run(self, prepare: Callable[[Nest], Loop]) -> keras.callbacks.History:
        """Scores checkpoints until training has ended.

        Args:
            prepare: builds the model with a sample batch, and returns its loop.

        Returns:
            `val_loss` and the other metrics of each scored checkpoint, by the number, from 0, of
            the epoch that it was written in.

        Raises:
            CheckpointError: a checkpoint is of another model, or stays unreadable.
        """
        loop = prepare(self._validation.sample_batch())
        history = keras.callbacks.History()
        history.set_model(loop.model)
        history.on_train_begin()
        loop.model.history = history
        log.info("scoring the checkpoints in %s as they come", self._store.directory)
        writer = tf.summary.create_file_writer(self._board) if self._board else None
        with contextlib.nullcontext() if writer is None else contextlib.closing(writer):
            for saved in self._loaded(loop.model):
                logs = loop.evaluate(self._validation, None, 0)
                scores = {name: float(value) for name, value in logs.items()}
                text = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
                log.info("checkpoint of %s: %s", saved, text)
                epoch = saved.epoch if saved.step else saved.epoch - 1  # that it was written in
                if writer is not None:
                    _write(writer, epoch, scores)
                marked = {f"val_{name}": value for name, value in scores.items()}
                history.on_epoch_end(epoch, marked)
        return history

    def _loaded(self, model: keras.Model) -> Iterator[Saved]:
        """Loads the newest checkpoint whenever there is a new one; ends when training has ended."""
        patience = _Patience(self._store.directory)
        run = _Job(self._resumes, self._grace)
        scored: Saved | None = None
        failures = 0
        while True:
            try:
                index = self._store.read()
                run.look(index)
                saved = index.saved
                if saved is not None and _differ(saved, scored) and run.may_score(index):
                    _load_weights(model, saved.path)
                    scored, failures = saved, 0
                    yield saved
                    patience.moved()
                    continue
            except (CheckpointError, *_DAMAGED) as error:
                # It may have been replaced, or dropped, while it was read.
                failures += 1
                if failures == _TRIES:
                    raise CheckpointError(
                        f"the checkpoints in {self._store.directory} cannot be loaded into this "
                        "model: they are of another one or damaged; give the directory of this "
                        f"model's Checkpoint callback ({in_short(error)})"
                    ) from error
            else:
                failures = 0
                if run.is_over(index):
                    _over.add(index.run)
                    log.info("training has ended: no more checkpoints to score")
                    return
            patience.look()
            time.sleep(_POLL_SECONDS)


def _load_weights(model: keras.Model, path: Path) -> None:
    weights = {n: v for n, v in plain_variables(model).items() if n.startswith("weight_")}
    damage = damage_of(path) if is_sharded(path) else None  # Keras looks at its own
    if damage := damage or load_variables(path, model, weights, whole=False):
        raise CheckpointError(f"{path}: {damage}")


def _differ(saved: Saved, scored: Saved | None) -> bool:
    return scored is None or (saved.name, saved.path) != (scored.name, scored.path)


class _Job:
    """Tells what in a directory is of this evaluator's job, and what of an earlier one."""

    def __init__(self, resumes: bool, grace: float) -> None:
        self._resumes = resumes
        self._grace = grace
        self._first: str | None = None
        self._born = _birth_of_this_process()
        self._start = time.monotonic()
        self._told = False

    def look(self, index: Index) -> None:
        """Takes note of an index; must come before the questions about it."""
        if self._first is None:
            self._first = index.run
        if index.finished and not self._told and not self.is_over(index):
            self._told = True
            log.info(
                "the last run in the directory has ended before this job's began: waiting %.0f s "
                "for a new one",
                self._grace,
            )

    def may_score(self, index: Index) -> bool:
        """Whether the index's checkpoint is one that the job has written or goes on from."""
        if index.saved is None or index.saved.stale:
            return False
        goes_on = self._resumes and index.run not in _over
        return goes_on or self._is_own(index) or self.is_over(index)

    def is_over(self, index: Index) -> bool:
        """Whether no more checkpoints will come."""
        waited = time.monotonic() - self._start
        return index.finished and (self._is_own(index) or waited >= self._grace)

    def _is_own(self, index: Index) -> bool:
        began_later = index.run != self._first or index.began >= self._born
        return index.run not in _over and began_later


def _birth_of_this_process() -> float:
    """When this process started, in seconds since 1970; on Linux from /proc, else about now."""
    try:
        # proc_pid_stat(5): the 22nd field, in clock ticks since the machine started.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        ticks = float(fields[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return time.time()
    return time.time() - age


class _Patience:
    """Says when nothing new has come for a minute, and again after two, four, eight ..."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.moved()

    def moved(self) -> None:
        """Notes that a checkpoint has come."""
        self._last = time.monotonic()
        self._next = _QUIET_SECONDS

    def look(self) -> None:
        """Says how long it has been, if it is time to."""
        still = time.monotonic() - self._last
        if still >= self._next:
            self._next *= 2
            log.info("no new checkpoint in %s for %.0f s; still waiting", self._directory, still)


def _write(writer: tf.summary.SummaryWriter, epoch: int, scores: dict[str, float]) -> None:
    """Writes scalars for TensorBoard, under the names and steps that Keras' callback uses."""
    with writer.as_default():
        for name, value in scores.items():
            tf.summary.scalar(f"epoch_{name}", value, step=epoch)
    writer.flush()
