"""Train Keras 3 models on many machines with TensorFlow, from one cluster spec.

    strategy = tfdist.strategy()
    with strategy.scope():
        model = keras.Sequential([...])
        model.compile(...)
    tfdist.plug(model)
    model.fit(dataset, epochs=5)

`import tfdist` imports neither TensorFlow nor NumPy: each name below is fetched when it is first
asked for (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tfdist.version import __version__

if TYPE_CHECKING:
    from tfdist import callbacks, environments, errors, launch, notebook, optimize, pipeline
    from tfdist.cluster import Cluster, Task
    from tfdist.functions.run_function import run
    from tfdist.process import is_chief
    from tfdist.strategies import strategy
    from tfdist.training import plug
    from tfdist.training.embeddings.sharded_embedding import ShardedEmbedding
    from tfdist.training.replica.collectives import gather_batch, own_rows
    from tfdist.training.scaled_warmup import ScaledWarmup

__all__ = [
    "Cluster",
    "ScaledWarmup",
    "ShardedEmbedding",
    "Task",
    "__version__",
    "callbacks",
    "environments",
    "errors",
    "gather_batch",
    "is_chief",
    "launch",
    "notebook",
    "optimize",
    "own_rows",
    "pipeline",
    "plug",
    "run",
    "strategy",
]

_HOME = {
    "Cluster": "tfdist.cluster",
    "ScaledWarmup": "tfdist.training.scaled_warmup",
    "ShardedEmbedding": "tfdist.training.embeddings.sharded_embedding",
    "Task": "tfdist.cluster",
    "gather_batch": "tfdist.training.replica.collectives",
    "is_chief": "tfdist.process",
    "own_rows": "tfdist.training.replica.collectives",
    "load_ipython_extension": "tfdist.notebook",
    "plug": "tfdist.training",
    "run": "tfdist.functions.run_function",
    "strategy": "tfdist.strategies",
}
"""The modules that the public functions and classes live in; the other names are submodules."""


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in __all__:
        value = import_module(f"tfdist.{name}")
    else:
        raise AttributeError(_unknown(name), name=name)
    globals()[name] = value  # the next time Python finds it without asking
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _unknown(name: str) -> str:
    """The message for a name that tfdist does not have, with the nearest one that it has."""
    from difflib import get_close_matches

    nearest = get_close_matches(name, __all__, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(__all__)}"
    return f"module 'tfdist' has no attribute {name!r}: {hint}"
