"""Trains on the twelve workers of this job; the chief notes what comes of it.

tfdist run --workers 12 twelve.py FILE
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import tfdist

strategy = tfdist.strategy(rendezvous_timeout=120)

from tests.multi_worker.twelve_programs import Spread, train  # noqa: E402

found = {
    "whole": train(strategy.scope(), None, shard_optimizer=False),
    "shared": train(strategy.scope(), None, shard_optimizer=True),
    "virtual": train(strategy.scope(), None, virtual_replicas=24),
    "gathered": train(strategy.scope(), Spread),
    "levels": [
        group.size for group in strategy.extended._cross_device_ops._launchers[0].tfdist_groups
    ],
}
if tfdist.is_chief():
    Path(sys.argv[1]).write_bytes(pickle.dumps(found))
