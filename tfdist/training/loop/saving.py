"""When a `fit` has its state kept, what that is, and how another `fit` goes on from it.

A callback that keeps states (`tfdist.callbacks.Checkpoint`) only says how often; the loop brings
everything to rest, asks every worker for its part, and hands the whole to the chief's callback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from tfdist import log
from tfdist.errors import CheckpointError, Preempted
from tfdist.strategies.stall_watch import note
from tfdist.structures import Logs
from tfdist.training.data import python_random
from tfdist.training.data.position import Position, RandomState
from tfdist.training.data.stream import Stream
from tfdist.training.loop import callback_state
from tfdist.training.loop.chunking import ChunkLength
from tfdist.training.loop.compiled_as import CompiledAs, rates_of
from tfdist.training.loop.family import Family
from tfdist.training.loop.job_state import JobState, WorkerState, from_bytes, to_bytes
from tfdist.training.loop.keeper import Cadence, KeptListener, keepers_among
from tfdist.training.loop.preemption import Preemption
from tfdist.training.model_parts import optimizers_of
from tfdist.training.peers.byte_messages import all_gather_bytes

__all__ = ["Saving"]

_SAVE, _SAVE_AND_END = 1.0, 2.0
_MOST_BYTES = 32 << 20  # that a worker tells the others
_MOST_BYTES_ALONE = 256 << 20


class Saving:
    """Keeps the states of one `fit`.

    Args:
        model: the model.
        family: what takes its steps.
        data: of the training.
        validation: the held-out data, or None.
        callbacks: those that run on this worker.
        cadence: how often, as agreed.

    Raises:
        CheckpointError: states within epochs are asked for, of data that have no position.
    """

    def __init__(
        self,
        model: keras.Model,
        family: Family,
        data: Stream,
        validation: Stream | None,
        callbacks: Sequence[keras.callbacks.Callback],
        cadence: Cadence,
    ) -> None:
        if (cadence.steps or cadence.seconds) and not data.has_position:
            raise CheckpointError(
                "every_steps and every_secs need to know where the data stand, but the workers "
                "read their own, each at its own pace: save at the ends of epochs (every=), or "
                "give fit a dataset instead of a function"
            )
        self._model = model
        self._family = family
        self._data = data
        self._validation = validation
        self._callbacks = callbacks
        self._cadence = cadence
        self._keepers = keepers_among(callbacks)
        self._preemption = Preemption(family.strategy)
        self._rates = rates_of(model) if cadence.epochs else []
        self._epoch = 0
        self._begun = 0
        self._last = time.monotonic()
        self._python: RandomState | None = None
        self._told_of_size = False

    @property
    def active(self) -> bool:
        """Whether any state will be kept."""
        return self._cadence.epochs > 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Around the epochs: a signal has the state kept first, and what was begun is written."""
        if not self.active:
            yield
            return
        with self._preemption.listening():
            try:
                yield
            except BaseException:
                for keeper in self._keepers:
                    # The first error says more.
                    with contextlib.suppress(CheckpointError, tf.errors.OpError):
                        keeper.settle()
                raise

    # ------------------------------------------------------------ when

    def begin_epoch(self, epoch: int, begun: int, chunk_length: ChunkLength) -> None:
        """Notes that an epoch begins, or goes on after `begun` steps."""
        self._epoch, self._begun = epoch, begun
        if begun and self._python is not None:
            python_random.set_state(self._python)  # whatever callbacks have drawn meanwhile
        self._python = None
        self._set_border(begun, chunk_length)

    def before_chunk(self, chunk_length: ChunkLength) -> None:
        """Tells the others what this worker wants to be done after the next chunk."""
        seconds = self._cadence.seconds
        overdue = self._keepers and seconds and time.monotonic() - self._last > seconds
        chunk_length.wish = _SAVE if overdue and self._family.layout.is_chief else 0.0
        if self._preemption.asked_by or self._preemption.asks_for_others:
            chunk_length.wish = _SAVE_AND_END

    def after_chunk(self, step: int, logs: Logs, chunk_length: ChunkLength) -> None:
        """Keeps the state, where its time has come.

        Args:
            step: steps that were taken of the epoch.
            logs: the metrics of these.
            chunk_length: of the epoch.

        Raises:
            Preempted: somebody has asked for the end, and the state is kept.
        """
        if not self.active:
            return
        steps, wished = self._cadence.steps, chunk_length.wished
        if not wished and not (steps and step % steps == 0):
            return
        if not wished and step == self._data.num_steps and self._epoch_is_kept():
            return
        if not self._family.at_rest:
            if wished:
                chunk_length.border = 0
            return
        self._keep(self._epoch, step, logs, wished >= _SAVE_AND_END)
        self._set_border(step, chunk_length)
        if wished >= _SAVE_AND_END:
            self._end(f"epoch {self._epoch + 1}, step {step}")

    def after_epoch(self, epoch: int, logs: Logs, last: bool) -> None:
        """Keeps the state at the end of an epoch, where its time has come; see `after_chunk`.

        Args:
            epoch: its number, from 0.
            logs: its metrics.
            last: whether no other follows.
        """
        if not self.active:
            return
        # Others to train with come too late for the last epoch.
        ask = self._preemption.asked_by or (not last and self._preemption.asks_for_others)
        own = _SAVE_AND_END if ask else 0.0
        ends = self._family.all_gather([own]).max() >= _SAVE_AND_END
        due = (epoch + 1) % self._cadence.epochs == 0 or ends
        if due or last:
            self._keep(epoch + 1, 0, logs, ends)
        if ends:
            self._end(f"the end of epoch {epoch + 1}")

    def _epoch_is_kept(self) -> bool:
        """Whether the state is kept anyway as soon as the last step is taken."""
        return self._validation is None and (self._epoch + 1) % self._cadence.epochs == 0

    def _set_border(self, step: int, chunk_length: ChunkLength) -> None:
        steps = self._cadence.steps
        chunk_length.border = (step // steps + 1) * steps - self._begun if steps else None
        chunk_length.wished = 0.0

    def _end(self, where: str) -> None:
        for keeper in self._keepers:
            keeper.settle()
        self._family.all_gather([0.0])  # nobody ends before the chief has written
        by = self._preemption.asked_by or "a signal to another task"
        if not self._preemption.asked_by and self._preemption.asks_for_others:
            by = "the launcher, which has other tasks to train with,"
        raise Preempted(
            f"{by} has asked for the end: all is saved as of {where}; start the job again, and it "
            "goes on from there"
        )

    # ------------------------------------------------------------ what

    def _keep(self, epoch: int, step: int, logs: Logs, ends: bool) -> None:
        note("at a checkpoint, where workers meet", "save")
        self._family.bring_together()
        parts = all_gather_bytes(self._family.all_gather, self._own_state(step))
        self._last = time.monotonic()
        keeps = bool(self._keepers) and self._family.layout.is_chief
        with self._family.gathered(keeps):
            if keeps:
                self._hand_over(epoch, step, logs, ends, parts)
        if not ends:  # else there is little time
            for listener in self._callbacks:
                if isinstance(listener, KeptListener):
                    reports = f"in {type(listener).__name__}, which reports a checkpoint"
                    note(reports, "callbacks")
                    listener.on_state_kept(epoch, step, logs)

    def _hand_over(
        self, epoch: int, step: int, logs: Logs, ends: bool, parts: Sequence[bytes]
    ) -> None:
        """Gives the state of the job to the callbacks that keep it, on the chief."""
        state = JobState(
            epoch,
            step,
            dict(logs),
            bool(getattr(self._model, "stop_training", False)),
            callback_state.states_of(self._callbacks),
            [WorkerState.from_tree(from_bytes(part)) for part in parts],
            compiled=CompiledAs.of(self._model, self._rates).to_tree(),
        )
        note("saving a checkpoint", "save", alone=True)
        for keeper in self._keepers:
            within = keeper.every_steps is not None or keeper.every_secs is not None
            keeper.keep(state, ends or (within if step else epoch % keeper.every == 0))

    def _own_state(self, step: int) -> bytes:
        there = self._validation is not None and self._validation.has_position
        replicas = self._family.replica_states()
        state = WorkerState(
            self._data.position(step) if self._data.has_position else None,
            self._validation.position(0) if there and self._validation else None,
            replicas,
            python_random.get_state(),
        )
        data = to_bytes(state.to_tree())
        if len(data) <= (_MOST_BYTES if self._family.layout.workers > 1 else _MOST_BYTES_ALONE):
            return data
        if not self._told_of_size:
            self._told_of_size = True
            log.warning(
                "the buffers of unseeded shuffles and the residuals of error_feedback (%d MB on "
                "this worker) are too large for a checkpoint: a run that resumes in the middle of "
                "an epoch will see some examples twice, unless keras.utils.set_random_seed is "
                "called before the data are made",
                len(data) >> 20,
            )
        position = state.position and dataclasses.replace(state.position, iterator=None)
        small = [{**one, "exchange": []} for one in replicas]
        return to_bytes(dataclasses.replace(state, position=position, replicas=small).to_tree())

    # ------------------------------------------------------------ to go on

    def restored(self) -> JobState | None:
        """Returns the state that the chief's callbacks have restored, on every worker."""
        own = [k.restored for k in self._keepers if k.restored is not None]
        data = own[0].to_bytes() if own and self._family.layout.is_chief else b""
        data = all_gather_bytes(self._family.all_gather, data)[0]
        return JobState.from_bytes(data) if data else None

    def go_on(self, state: JobState, ended: bool = False) -> None:
        """Brings the data and the callbacks to where they stood, before the epochs begin.

        Args:
            state: of the job.
            ended: whether no epoch is left to train.

        Raises:
            CheckpointError: they cannot stand there.
        """
        layout = self._family.layout
        if state.compiled is not None and not ended:
            now, then = (
                CompiledAs.of(self._model, self._rates),
                CompiledAs.from_tree(state.compiled),
            )
            if state.step:
                now.check_counts(then)
            if layout.is_chief:
                now.tell_of_rates(then)
        callback_state.give_back(self._callbacks, state.callbacks, ended)
        same = len(state.workers) == layout.workers
        # First: the training data set the random numbers that they go on with.
        worker = state.workers[layout.worker if same else 0]
        if worker.validation is not None and self._validation is not None:
            self._validation.go_to(worker.validation)
        if worker.position is not None and self._data.has_position:
            if not same and not self._data.is_global and state.step:
                raise CheckpointError(
                    f"the checkpoint is of the middle of an epoch with {len(state.workers)} "
                    f"workers that read their own data, and there are {layout.workers} now: start "
                    f"{len(state.workers)}, or resume from the end of an epoch"
                )
            if same or self._data.is_global:
                self._data.go_to(self._for_us(worker.position, state))
                self._python = worker.position.python
        elif state.step:
            log.warning(
                "nobody knows where the data stood after step %d: the epoch begins with its first "
                "batch",
                state.step,
            )
        draws_from_data = worker.position is not None and worker.position.python is not None
        if ended or not draws_from_data:
            python_random.set_state(worker.python)

    def _for_us(self, position: Position, state: JobState) -> Position:
        """A position without what only the replicas that wrote it can read."""
        before = [len(worker.replicas) for worker in state.workers]
        layout = self._family.layout
        if position.iterator is None:
            if state.step and layout.is_chief and self._data.draws_anew:
                log.warning(
                    "the data have no seed, and TensorFlow cannot keep where they stand: the rest "
                    "of this epoch has another order, with some examples of its beginning; call "
                    "keras.utils.set_random_seed before the data are made"
                )
            return position
        if before == [layout.local] * layout.workers:
            return position
        if state.step and layout.is_chief:
            log.warning(
                "the data have no seed, and there are other replicas than in the run that wrote "
                "the checkpoint: the rest of this epoch has another order, with some examples of "
                "its beginning; call keras.utils.set_random_seed before the data are made"
            )
        return dataclasses.replace(position, iterator=None)

    def give_back_to_replicas(self, state: JobState) -> None:
        """Brings what each replica has to where it stood; metrics in the middle of an epoch."""
        states = [one for worker in state.workers for one in worker.replicas]
        if not state.step:
            states = [{**one, "metrics": []} for one in states]
        self._family.set_replica_states(states)

    @contextlib.contextmanager
    def rates_kept(self) -> Iterator[None]:
        """Leaves the optimizers' numbers as they are, whatever callbacks do as an epoch goes on.

        A schedule sets its rate where an epoch begins; this one has begun before.
        """
        optimizers = optimizers_of(self._model)
        scalars = [v for one in optimizers for v in one.variables if not v.shape.rank]
        before = [v.numpy() for v in scalars]
        yield
        for variable, value in zip(scalars, before, strict=True):
            variable.assign(value)
