"""Trains on the eleven workers of this job; the chief notes what comes of it.

tfdist run --workers 11 eleven.py FILE
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import tfdist

strategy = tfdist.strategy(rendezvous_timeout=120)

from tests.multi_worker.eleven_programs import Spread, train  # noqa: E402

found = {
    "whole": train(strategy.scope(), None, shard_optimizer=False),
    "shared": train(strategy.scope(), None, shard_optimizer=True),
    "virtual": train(strategy.scope(), None, virtual_replicas=22),
    "gathered": train(strategy.scope(), Spread),
}
if tfdist.is_chief():
    Path(sys.argv[1]).write_bytes(pickle.dumps(found))
