"""The two towers' loss: by hand, and on replicas of uneven parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.training.comparing import same
from tests.training.devices import cut_the_cpu
from tfdist.examples import ratings

cut_the_cpu()

IDS = ratings.movielens()[0][0][:41]  # the last batch of 9 is uneven on two replicas
SHARES = np.random.default_rng(1).uniform(0.001, 0.1, len(IDS)).astype(np.float32)


def towers() -> Any:
    import keras

    from tfdist.examples import two_towers

    model = two_towers.TwoTowers()
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


def test_a_row_is_told_from_the_movies_of_all_other_rows_but_its_own() -> None:
    model, ids = towers(), np.concatenate([IDS[:6], IDS[:2]])  # two movies come twice
    shares = SHARES[:8]
    users, movies = (np.asarray(vectors) for vectors in model(ids))
    losses = []
    for row in range(8):
        scores = movies @ users[row] / 0.1 - np.log(shares)
        wrong = [other for other in range(8) if ids[other, 1] != ids[row, 1]]
        losses.append(np.log(np.exp(scores[[row, *wrong]]).sum()) - scores[row])
    told = model.evaluate(ids, shares, batch_size=8, verbose=0)
    np.testing.assert_allclose(told, np.mean(losses), rtol=1e-5)


def test_replicas_have_the_loss_of_one_process() -> None:
    def use(model: Any) -> Any:
        history = model.fit(IDS, SHARES, batch_size=16, epochs=2, shuffle=False, verbose=0).history
        return history, model.evaluate(IDS, SHARES, batch_size=16, verbose=0)

    same(towers, use)
