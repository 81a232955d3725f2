"""Trains until an epoch, from the checkpoint in a folder, with whole slots or with shares.

tfdist run --workers 2 resuming_job.py FOLDER EPOCHS shared
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import tfdist

folder, epochs, shared = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "shared"
strategy = tfdist.strategy(rendezvous_timeout=60)

import keras  # noqa: E402

from tests.slot_shards.programs import FIT, PROGRAMS, SEED, X, Y  # noqa: E402

keras.utils.set_random_seed(SEED)
with strategy.scope():
    model = PROGRAMS["decay, clipping and averages"][0]()
tfdist.plug(model, shard_optimizer=shared)
keep = tfdist.callbacks.Checkpoint(folder / "run", every=2, every_steps=3)
model.fit(X, Y, **{**FIT, "epochs": epochs}, callbacks=[keep])
if tfdist.is_chief():
    (folder / "weights.pickle").write_bytes(pickle.dumps(model.get_weights()))
