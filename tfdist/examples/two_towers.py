"""Finds the movies that somebody will like: two towers, a loss that looks across the batch.

    python -m tfdist.examples.two_towers                               in this process
    python -m tfdist.examples.two_towers --logical_devices 2           two replicas here
    tfdist run --workers 2 -m tfdist.examples.two_towers               two workers on this machine

In step, the loss is one process' on any number of replicas: 40 % of the movies that people liked
are among the 100 found for them; 27 % are where all are shown the most popular.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from absl import flags
from keras import layers, ops

import tfdist
from tfdist.examples import ratings, settings

FLAGS = flags.FLAGS

BEST = 100
_WIDTH = 32
_TEMPERATURE = 0.1


@keras.saving.register_keras_serializable("tfdist.examples")
class TwoTowers(keras.Model):
    """From ids of a user and a movie, (batch, 4), to a vector of each, of length 1.

    A row's wrong answers are the movies of all other rows of the global batch, whatever replica
    has them; how often a movie is one is made up for by its share of the likes.

    Source: X. Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", 2019, equation 3.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        size = sum(ratings.VOCABULARIES.values())
        self.ids = layers.Embedding(size, _WIDTH, name="ids")
        self.users = layers.Dense(_WIDTH, name="users")
        self.movies = layers.Dense(_WIDTH, name="movies")

    def call(self, ids: Any) -> Any:
        """Returns the vectors of users and of movies."""
        found = self.ids(ids)
        users = self.users(found[:, 0])
        movies = self.movies(ops.sum(found[:, 1:], axis=1))
        return ops.normalize(users, axis=1), ops.normalize(movies, axis=1)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Returns the mean cross-entropy of finding each row's movie among those of all rows."""
        users, movies = y_pred
        own = x[:, 1]
        movies, shares, everybodys = tfdist.gather_batch((movies, y, own))
        scores = ops.matmul(users, ops.transpose(movies)) / _TEMPERATURE - ops.log(shares)
        right = tfdist.own_rows(ops.arange(ops.shape(everybodys)[0]))  # the columns of these rows
        itself = ops.one_hot(right, ops.shape(everybodys)[0])
        again = ops.cast(ops.equal(own[:, None], everybodys), scores.dtype) - itself
        scores -= 1e9 * again  # the same movie in another row is no wrong answer
        losses = keras.losses.sparse_categorical_crossentropy(right, scores, from_logits=True)
        return ops.mean(losses)


def recall(model: keras.Model, train: Any, test: Any) -> float:
    """Returns the share of the test likes among the `BEST` movies that are new to each user."""
    movies = np.unique(np.concatenate([train, test])[:, 1:], axis=0)
    count = ratings.VOCABULARIES["user"]
    everybody = np.arange(len(movies), dtype=np.int32) % count
    users, vectors = model.predict(np.column_stack([everybody, movies]), 1024, verbose=0)
    scores = users[:count] @ vectors.T
    train_at, test_at = (
        (likes[:, 0], np.searchsorted(movies[:, 0], likes[:, 1])) for likes in (train, test)
    )
    scores[train_at] = -np.inf
    worst = np.partition(scores, -BEST, axis=1)[:, -BEST]
    return float(np.mean(scores[test_at] >= worst[test_at[0]]))


def main() -> None:
    """Trains, tests and, where asked, saves."""
    strategy = settings.strategy()
    train, test = (ids[stars >= 4] for ids, stars in ratings.movielens())
    _, movie, likes = np.unique(train[:, 1], return_inverse=True, return_counts=True)
    shares = (likes[movie] / len(train)).astype(np.float32)
    with strategy.scope():
        model = TwoTowers()
        model.compile(optimizer=keras.optimizers.Adagrad(FLAGS.learning_rate))
    tfdist.plug(model)

    model.fit(
        train,
        shares,
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        callbacks=settings.callbacks(),
    )
    found = recall(model, train, test)

    if tfdist.is_chief():
        print(f"test recall: {found:.4f}")
        if FLAGS.save:
            model.save(FLAGS.save)


if __name__ == "__main__":
    settings.run(main, epochs=8, batch_size=512, learning_rate=0.1)
