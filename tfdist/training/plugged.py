"""A plugged model: what stands in for its methods."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Container, Mapping
from contextlib import nullcontext
from typing import Any

import keras
import tensorflow as tf

from tfdist import process
from tfdist.compat import keras_data, keras_trainer
from tfdist.compat.versions import batches_count_anew
from tfdist.errors import DataError
from tfdist.strategies import fit_clock, registry
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Callbacks, Data, Logs, Nest
from tfdist.training import evaluator, families, model_checks, own_methods
from tfdist.training.building import Builder
from tfdist.training.checkpointing.replacing import write_alone
from tfdist.training.data.arrays import as_tensors
from tfdist.training.data.global_batches import GlobalBatches, to_step
from tfdist.training.data.per_worker import is_input_function
from tfdist.training.data.stream import Step, Stream
from tfdist.training.loop.epoch_loop import Epochs, Loop
from tfdist.training.loop.family import Family
from tfdist.training.loop.made_for import MadeFor
from tfdist.training.loop.prediction import Prediction
from tfdist.training.mode import Mode
from tfdist.training.plug_options import TrainingOptions

__all__ = ["Plugged"]


class Plugged:
    """What tfdist keeps for one plugged model; its methods stand in for the model's own.

    Args:
        model: the model to plug.
        options: how its replicas exchange gradients.
    """

    _ATTRIBUTE = "_tfdist_plugged"

    def __init__(self, model: keras.Model, options: TrainingOptions) -> None:
        model_checks.check_methods(model)
        self.model = model
        self.options = options
        self.strategy: tf.distribute.Strategy = model.distribute_strategy
        registry.check_belongs(self.strategy, what="the model")
        registry.note_plugged()
        self.layout: ReplicaLayout = registry.layout_of(self.strategy)
        self._kind = families.family_of(self.strategy)
        self._rows = self._kind.rows(self.layout, options)
        if not process.current().is_evaluator:  # it scores, and takes no step
            options.check_for(self._kind.name, self._kind.options)
        model_checks.check_scope(self._kind, self.strategy, model.variables, "the model was built")
        self._loop: Loop | None = None
        self._prediction: Prediction | None = None
        self._prepared_model = self._kind.prepare(model, self.strategy, options)
        self._built_for: MadeFor | None = None
        self._builder = Builder(model, self.strategy, self._rows.replicas)
        self._held_out: Callable[[], Stream] | None = None
        self.calls = own_methods.Calls()
        object.__setattr__(model, self._ATTRIBUTE, self)
        for name in own_methods.METHODS:
            object.__setattr__(model, name, own_methods.stand_in(self, name, Plugged.of))

    @classmethod
    def of(cls, model: keras.Model) -> Plugged | None:
        """Returns what was kept for this model, or None where it is not plugged."""
        return vars(model).get(cls._ATTRIBUTE)

    @property
    def is_shared_out(self) -> bool:
        """Whether training is more than what plain Keras would do in this process."""
        return self._kind.is_shared_out(self._rows)

    @property
    def examples(self) -> int:
        """How many rows, of all replicas, the job has trained on since the model was compiled."""
        return 0 if self._loop is None else self._loop.examples

    # ------------------------------------------------------------ the model's methods

    def compile(self, *args: object, **kwargs: object) -> None:
        """`keras.Model.compile`, inside the strategy's scope."""
        with self.strategy.scope():
            type(self.model).compile(self.model, *args, **kwargs)

    def save(self, filepath: object, *args: object, **kwargs: object) -> None:
        """`keras.Model.save`; workers that save to one path do not write into each other's file."""
        self._write("save", filepath, *args, **kwargs)

    def save_weights(self, filepath: object, *args: object, **kwargs: object) -> None:
        """`keras.Model.save_weights`, safe on several workers as `save`."""
        self._write("save_weights", filepath, *args, **kwargs)

    def export(self, filepath: object, *args: object, **kwargs: object) -> None:
        """`keras.Model.export`, safe on several workers as `save`."""
        self._write("export", filepath, *args, **kwargs)

    def _write(self, name: str, *args: object, **kwargs: object) -> None:
        write = self.write_alone(keras_trainer.keras_writer(self.model, name))
        family = None if name == "export" or self._loop is None else self._loop.family
        whole = nullcontext() if family is None else family.gathered(True, call=True)
        with fit_clock.CLOCK.during("save"), whole:
            write(*args, **kwargs)

    def write_alone(self, write: Callable[..., None]) -> Callable[..., None]:
        """Returns `write`, which takes a path first, as several workers can call it at once."""
        if self.layout.workers == 1:
            return write

        def alone(filepath: object, *args: object, **kwargs: object) -> None:
            write_alone(filepath, lambda path: write(path, *args, **kwargs), self.layout.is_chief)

        return alone

    def fit(
        self,
        x: Data = None,
        y: Data = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Data = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Data = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Container[int] = 1,
    ) -> keras.callbacks.History:
        """`keras.Model.fit` on all replicas of the strategy."""
        model_checks.check_compiled(self.model, "fit")
        self._kind.check_callbacks(callbacks, self.strategy, self.options)
        limit = keras.config.max_epochs()
        epochs = min(epochs, limit) if limit else epochs
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = keras_data.split_validation(
                x, y, sample_weight, validation_split
            )
        validation = None
        own_evaluate = None
        if validation_data is not None:
            val_x, val_y, val_weight = keras_data.unpack(validation_data)
            size = validation_batch_size or batch_size
            self._held_out = functools.cache(
                lambda: self._data(
                    val_x, val_y, val_weight, batch_size=size, steps=validation_steps
                )
            )
            if own_methods.has_own(self.model, "evaluate"):
                own_evaluate = functools.partial(
                    self.model.evaluate,  # as `keras.Model.fit` calls it
                    x=val_x,
                    y=val_y,
                    sample_weight=val_weight,
                    batch_size=size,
                    steps=validation_steps,
                    return_dict=True,
                    _use_cached_eval_dataset=True,
                )
            else:
                validation = self._held_out()
        if process.current().is_evaluator:
            model_checks.check_evaluator(self.model)
            return evaluator.Evaluator(validation, callbacks).run(self._prepared)
        data = self._data(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            steps=steps_per_epoch,
            shuffle=shuffle,
            class_weight=class_weight,
            cache=self.options.cache_data,
        )
        loop = self._prepared(data.sample_batch())
        if validation is not None:
            self._builder.build("test", validation.sample_batch())
        which = Epochs(epochs, initial_epoch, validation_freq)
        try:
            with loop.family.working():
                return loop.fit(data, validation, which, callbacks, verbose, own_evaluate)
        finally:
            self._held_out = None

    def evaluate(
        self,
        x: Data = None,
        y: Data = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Data = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        return_dict: bool = False,
        **kwargs: object,
    ) -> Logs | list[float] | float:
        """`keras.Model.evaluate`: every example once over all replicas."""
        of_fit = kwargs.pop("_use_cached_eval_dataset", False)  # Keras tells its own methods so
        if kwargs:
            raise ValueError(f"Arguments not recognized: {kwargs}")
        model_checks.check_compiled(self.model, "evaluate")
        if of_fit and self._held_out is not None:
            data = self._held_out()
        else:
            data = self._data(x, y, sample_weight, batch_size=batch_size, steps=steps)
        loop = self._prepared(data.sample_batch(), "test")
        with loop.family.working(), loop.apart():
            logs = loop.evaluate(data, callbacks, verbose)
        return dict(sorted(logs.items())) if return_dict else self._in_order(logs)

    def predict(
        self,
        x: Data,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Callbacks = None,
    ) -> Nest:
        """`keras.Model.predict`: all outputs, in the order of the data, on every worker."""
        own = is_input_function(x) or isinstance(x, types.GeneratorType)  # which others read, too
        if self._kind.predicts_as_keras(self.layout) and not own:
            return keras_trainer.keras_predict(self.model, x, batch_size, verbose, steps, callbacks)
        data = self._data(x, batch_size=batch_size, steps=steps, layout=self.layout)
        if not isinstance(data, GlobalBatches):
            raise DataError(
                "predict takes arrays or a dataset, the same on every worker; with a function of "
                "tf.distribute.InputContext the outputs would have no order"
            )
        loop, prediction = self._prepared_to_predict(data.sample_batch())
        with loop.family.working(), loop.apart():
            return loop.predict(prediction, data, callbacks, verbose)

    def train_on_batch(
        self,
        x: Data,
        y: Data = None,
        sample_weight: Data = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Logs | list[float] | float:
        """`keras.Model.train_on_batch` of one global batch, the same on every worker."""
        model_checks.check_compiled(self.model, "train_on_batch")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Arguments `sample_weight` and `class_weight` cannot be specified at the same "
                    f"time. Received: sample_weight={sample_weight}, class_weight={class_weight}"
                )
            sample_weight = keras_data.class_weight_to_sample_weights(y, class_weight)
        return self._on_batch("train", (x, y, sample_weight), return_dict)

    def test_on_batch(
        self, x: Data, y: Data = None, sample_weight: Data = None, return_dict: bool = False
    ) -> Logs | list[float] | float:
        """`keras.Model.test_on_batch` of one global batch, the same on every worker."""
        model_checks.check_compiled(self.model, "test_on_batch")
        return self._on_batch("test", (x, y, sample_weight), return_dict)

    def predict_on_batch(self, x: Data) -> Nest:
        """`keras.Model.predict_on_batch` of one global batch; all outputs on every worker."""
        step = self._step((x,), self.layout)
        loop, prediction = self._prepared_to_predict(step.parts[0])
        with loop.family.working():
            return prediction.batch(step)

    # ------------------------------------------------------------ how they do it

    def _on_batch(
        self, mode: Mode, batch: tuple[Data, ...], return_dict: bool
    ) -> Logs | list[float] | float:
        step = self._step(batch, self._rows)
        loop = self._prepared(step.parts[0], mode)
        family = loop.family
        if mode == "train":
            family.prepare_to_train()
            family.begin_to_train()
        with family.working():
            if batches_count_anew(keras.__version__):
                family.reset_metrics()
            logs = family.on_batch(mode, step)
        return dict(sorted(logs.items())) if return_dict else self._in_order(logs)

    def _step(self, batch: tuple[Data, ...], layout: ReplicaLayout) -> Step:
        while batch and batch[-1] is None:
            batch = batch[:-1]
        return to_step(as_tensors(batch), layout)

    def _data(
        self,
        x: Data,
        y: Data = None,
        sample_weight: Data = None,
        *,
        layout: ReplicaLayout | None = None,
        **kwargs: Any,
    ) -> Stream:
        if not is_input_function(x):
            if layout is None:  # steps of `fit` and `evaluate`, which may find their rows there
                kwargs["gpus"] = self._kind.gpus(self.strategy, self.options)
                asked = self.options.data_on_device
                # Who has asked for the arrays of `fit` has not for what is evaluated beside them.
                kwargs["on_device"] = None if asked and "shuffle" not in kwargs else asked
            return GlobalBatches(layout or self._rows, x, y, sample_weight, **kwargs)
        if self._rows != self.layout:
            raise DataError(
                "virtual_replicas with a function of tf.distribute.InputContext: what each worker "
                "reads for itself depends on how many workers there are; give the dataset itself"
            )
        for name, value in {"y": y, "sample_weight": sample_weight, **kwargs}.items():
            if value is not None and name not in ("steps", "shuffle", "cache"):
                raise DataError(
                    f"{name} was given beside a function of tf.distribute.InputContext: the "
                    "dataset that it returns holds everything, and its batches are the replicas'"
                )
        return self._kind.own_data(self.strategy, self.layout, x, kwargs.get("steps"))

    def family_for(self, batch: Nest) -> Family:
        """Returns what takes this model's steps, for whoever trains it in another way than `fit`.

        Args:
            batch: tensors or specs of one batch, with which the model is built if it is not.

        Raises:
            PlugError: the model cannot be trained by its strategy as it stands.
        """
        return self._prepared(batch).family

    def _prepared(self, batch: Nest, mode: Mode = "train") -> Loop:
        """Builds what is not built yet, and returns the loop for the model as compiled now."""
        model = self.model
        # None: only predict has been called until now.
        is_new = self._built_for is None or self._built_for is not model.train_function
        if is_new:
            model_checks.check_variables(self._kind, model, self.strategy)
            model_checks.check_layers(model, self.is_shared_out)
            self._builder.begin_anew()
            self._kind.before_build(self._prepared_model)
        self._builder.build(mode, batch)
        if is_new:
            model_checks.check_variables(self._kind, model, self.strategy)
            self._kind.check(model, self.strategy)
            self._loop = Loop(model, self._family())
            self._prediction = None
            # `compile` sets it to None: that tells that everything must be traced anew.
            self._built_for = model.train_function = self._loop.made_for
        assert self._loop is not None
        return self._loop

    def _prepared_to_predict(self, batch: Nest) -> tuple[Loop, Prediction]:
        model_checks.check_layers(self.model, self.is_shared_out)
        self._builder.build("predict", batch)
        if self._loop is None:
            self._loop = Loop(self.model, self._family())
        if self._prediction is None:
            self._prediction = self._loop.family.prediction()
        return self._loop, self._prediction

    def _family(self) -> Family:
        return self._kind.make(
            self.model, self.strategy, self.layout, self.options, self._prepared_model
        )

    def _in_order(self, logs: Logs) -> list[float] | float:
        return keras_trainer.in_order(self.model, logs)
