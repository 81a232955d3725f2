"""Tunes a vision transformer of keras_hub to images that it has not learned from, by LoRA.

    pip install 'tfdist[hub]'
    python -m tfdist.examples.finetune                                 in this process
    python -m tfdist.examples.finetune --logical_devices 2             two replicas in this process
    tfdist run --workers 2 -m tfdist.examples.finetune                 two workers on this machine

The transformer learns clean digits; of noisy ones it recognises 54 %. Then 100 noisy ones, ten of
each digit, tune an eighth of its weights, and it recognises 59 %; one that has seen nothing else
comes to 41 %. With a preset from the web, as
`ViTBackbone.from_preset("vit_base_patch16_224_imagenet")`, in place of what `learn` has trained,
all else stays as it is.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
from absl import flags

import tfdist
from tfdist.examples import data, settings

FLAGS = flags.FLAGS

_EACH = 10
"""Noisy images of each digit."""

_RANK = 4
_CLEAN = {"batch_size": 64, "epochs": 15}
_CLEAN_RATE = 3e-3


def keras_hub() -> Any:
    """Returns keras_hub's models.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return importlib.import_module("keras_hub").models
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the transformer is keras_hub's, but {error.name} is not installed: "
            "pip install 'tfdist[hub]'",
            name=error.name,
        ) from error


def build_backbone() -> Any:
    """A vision transformer of two blocks and 17,888 weights, for images of 8 by 8 pixels.

    Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, section 3.1.
    """
    return keras_hub().ViTBackbone(
        image_shape=(8, 8, 1),
        patch_size=2,
        num_layers=2,
        num_heads=4,
        hidden_dim=32,
        mlp_dim=64,
        dropout_rate=0.0,
        attention_dropout=0.0,
    )


def build_classifier(backbone: Any, rate: float) -> keras.Model:
    """A classifier of ten digits on a backbone, with a head of its own."""
    model = keras_hub().ViTImageClassifier(
        backbone=backbone, num_classes=10, preprocessor=None, pooling="gap"
    )
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def learn(strategy: Any, images: Any, labels: Any) -> keras.Model:
    """Trains a new backbone and a head on clean digits."""
    with strategy.scope():
        model = build_classifier(build_backbone(), _CLEAN_RATE)
    tfdist.plug(model)
    model.fit(images, labels, **_CLEAN, verbose=0)
    return model


def tuned_by_lora(strategy: Any, backbone: Any, rate: float) -> keras.Model:
    """A classifier whose backbone keeps what it knows, and learns small changes to it.

    Source: E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2022.
    """
    with strategy.scope():
        backbone.enable_lora(_RANK)
        model = build_classifier(backbone, rate)
    tfdist.plug(model)
    return model


def few(labels: Any, each: int = _EACH) -> Any:
    """Returns the places of so many images of each digit, in an order that is always the same."""
    order = np.random.RandomState(0).permutation(len(labels))
    taken = [order[labels[order] == digit][:each] for digit in range(10)]
    return np.random.RandomState(1).permutation(np.concatenate(taken))


def main() -> None:
    """Trains, tunes, tests and, where asked, saves."""
    strategy = settings.strategy()
    (clean, labels), (_, test_labels) = data.digits()
    (noisy, _), (test, _) = data.noisy_digits()

    before = learn(strategy, clean, labels)
    _, known = before.evaluate(test, test_labels, FLAGS.batch_size, verbose=0)
    model = tuned_by_lora(strategy, before.backbone, FLAGS.learning_rate)
    few_ones = few(labels)
    model.fit(
        noisy[few_ones],
        labels[few_ones],
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        callbacks=settings.callbacks(),
    )
    _, accuracy = model.evaluate(test, test_labels, FLAGS.batch_size, verbose=0)

    if tfdist.is_chief():
        print(f"before: {known:.4f}, test accuracy: {accuracy:.4f}")
        if FLAGS.save:
            model.save(FLAGS.save)


if __name__ == "__main__":
    settings.run(main, epochs=30, batch_size=32, learning_rate=5e-3)
