"""Tells Ray Train of metrics and of checkpoints, and takes Ray's newest checkpoint up.

Source: `ray.train.report` and `ray.train.get_checkpoint`, Ray 2.60.
"""

from __future__ import annotations

import tempfile
from types import ModuleType

import keras

from tfdist import log, process
from tfdist.callbacks.checkpoint import Checkpoint
from tfdist.errors import CheckpointError, PlugError
from tfdist.structures import Logs
from tfdist.training.checkpointing.store import Store, numbers_of
from tfdist.training.plugged import Plugged

__all__ = ["RayReport"]


class RayReport(keras.callbacks.Callback):
    """Reports each epoch's metrics to Ray Train, and what `Checkpoint` keeps.

    For the `train_loop_per_worker` of a `ray.train.tensorflow.TensorflowTrainer`; give it to `fit`
    on every worker. Each report has the logs of the chief and `epoch`, how many whole epochs were
    trained; one in the middle of an epoch has `step`, too.

    With `checkpoint`, each of its checkpoints becomes one of Ray's, which lies in the run's
    `storage_path` under the rules of its `CheckpointConfig`, and is the `checkpoint` of Ray's
    result. When Ray begins a worker group anew (`FailureConfig(max_failures=)`, or another number
    of workers, `ScalingConfig(num_workers=(1, 4))`), the newest of Ray's is put into
    `checkpoint.directory` where that holds none as new, and `fit` goes on from there, in an epoch's
    middle too. So the directory need not outlive its machine. Training waits until Ray has copied
    each.

    Args:
        checkpoint: the `tfdist.callbacks.Checkpoint` that `fit` is given beside this one; None
            reports metrics alone.

    Raises:
        PlugError: this is no worker of Ray Train, or Ray is not installed.
        CheckpointError: the directory cannot be written.

    Example:
        >>> keep = tfdist.callbacks.Checkpoint("run/", every_steps=500)
        >>> report = tfdist.callbacks.RayReport(keep)
        >>> model.fit(dataset, epochs=5, callbacks=[keep, report])
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        super().__init__()
        if not (checkpoint is None or isinstance(checkpoint, Checkpoint)):
            raise CheckpointError(
                f"RayReport({checkpoint!r}): give a tfdist.callbacks.Checkpoint, or nothing"
            )
        self.checkpoint = checkpoint
        self._train = _ray_train()
        self._unreported: tuple[int, Logs] | None = None
        if checkpoint is not None and checkpoint.resume and process.current().is_chief:
            self._fetch(checkpoint.store)

    def _fetch(self, store: Store) -> None:
        """Puts the newest checkpoint that Ray knows of into the directory, if it is newer."""
        reported = self._train.get_checkpoint()
        if reported is None:
            return
        try:
            own = store.latest()
        except CheckpointError as error:
            log.warning("%s: taking Ray's", error)
            own = None
        with reported.as_directory() as folder:
            saved = Store(folder).latest()
            if saved is None:
                raise CheckpointError(
                    f"Ray's checkpoint {reported.path} holds none of tfdist's: it was reported by "
                    "something else; leave RayReport's checkpoint out, or begin another run"
                )
            if own is None or own.place < saved.place:
                store.adopt(saved)
                log.info("goes on from Ray's checkpoint: %s, from %s", saved, reported.path)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Asks that the checkpoint is given to `fit`, too.

        Raises:
            CheckpointError: it is not.
            PlugError: the model is not plugged.
        """
        keeps, self._unreported = self.checkpoint, None
        if keeps is not None and Plugged.of(self.model) is None:
            raise PlugError(
                "RayReport(checkpoint) hears of checkpoints from the loop of a model that is "
                "plugged: call tfdist.plug(model) before fit"
            )
        if keeps is not None and keeps.model is not self.model:
            raise CheckpointError(
                "RayReport(checkpoint) reports what its Checkpoint keeps, but fit was not given "
                "that one: give both, callbacks=[checkpoint, RayReport(checkpoint)]"
            )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Reports an epoch of which no checkpoint is kept."""
        if self.checkpoint is None or (epoch + 1) % self.checkpoint.every:
            self._train.report({**numbers_of(logs or {}), "epoch": epoch + 1})

    def on_state_kept(self, epoch: int, step: int, logs: Logs) -> None:
        """Reports a checkpoint, with the metrics so far.

        Args:
            epoch: how many whole epochs the model has seen.
            step: how many steps of the next one it has seen.
            logs: the metrics of the last epoch, or of these steps.
        """
        keeps = self.checkpoint
        self._unreported = None
        if keeps is None:
            return
        if not step and epoch % keeps.every:
            self._unreported = (epoch, logs)  # kept at the very end, if this is the last
            return
        self._tell(keeps, epoch, step, logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Reports the last epoch, where its turn had not come."""
        if self.checkpoint is not None and self._unreported is not None:
            self.checkpoint.keep_pending()
            self._tell(self.checkpoint, self._unreported[0], 0, self._unreported[1])

    def _tell(self, keeps: Checkpoint, epoch: int, step: int, logs: Logs) -> None:
        metrics = {**numbers_of(logs or {}), "epoch": epoch, **({"step": step} if step else {})}
        if not process.current().is_chief:
            self._train.report(metrics)
            return
        keeps.settle()
        newest = keeps.store.latest()
        with tempfile.TemporaryDirectory(prefix="tfdist-ray-") as folder:
            if newest is None or newest.stale or newest.place != (epoch, step):
                # Weights that are not finite became no checkpoint, or another callback's is kept.
                self._train.report(metrics)
                return
            Store(folder).adopt(newest)
            self._train.report(metrics, checkpoint=self._train.Checkpoint.from_directory(folder))


def _ray_train() -> ModuleType:
    """Returns `ray.train`, in a worker of it."""
    try:
        from ray import train
    except ImportError as error:
        raise PlugError(
            f"RayReport needs Ray Train ({error}): pip install 'tfdist[ray]', or leave it out"
        ) from error
    try:
        train.get_context().get_world_rank()
    except RuntimeError as error:
        raise PlugError(
            "RayReport reports from the workers of Ray Train, and this process is none: use it in "
            "the train_loop_per_worker of a ray.train.tensorflow.TensorflowTrainer"
        ) from error
    module: ModuleType = train
    return module
