"""Keras 3 on JAX, one process of the tensor-parallel benchmark: weights over two devices, or one.

    KERAS_BACKEND=jax python -m tests.benchmarks.on_jax_in_parts PORT

It is asked as `pipeline_job` is. A case of the schedule "tensor_parallel" is trained under
`keras.distribution.ModelParallel`, over the devices that XLA_FLAGS makes of the CPU.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import keras
import numpy as np

from tests.benchmarks.pipeline_job import Case, batch_of, make_model, obey

_COLUMN, _ROW = (None, "model"), ("model", None)


def _layout() -> Any:
    """As tfdist cuts these models by itself."""
    mesh = keras.distribution.DeviceMesh(
        (1, 2), ("batch", "model"), keras.distribution.list_devices()
    )
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*(dense|wide)[0246]/kernel"] = _COLUMN
    layout[".*(dense|wide)[1357]/kernel"] = _ROW
    layout[".*up[0-9]/kernel"] = _COLUMN
    layout[".*down[0-9]/kernel"] = _ROW
    layout[".*attention[0-9]/(query|key|value)/kernel"] = (None, "model", None)
    layout[".*attention[0-9]/attention_output/kernel"] = ("model", None, None)
    return layout


class _Job:
    def __init__(self) -> None:
        self._models: dict[Case, tuple[Any, Any, Any]] = {}

    def warm(self, case: Case) -> dict[str, Any]:
        if case.schedule == "tensor_parallel":
            parallel = keras.distribution.ModelParallel(
                layout_map=_layout(), batch_dim_name="batch"
            )
            keras.distribution.set_distribution(parallel)
        self._models[case] = make_model(case), *batch_of(case)
        return self.train(case, 2)

    def train(self, case: Case, steps: int) -> dict[str, Any]:
        model, x, y = self._models[case]
        x, y = np.tile(x, (steps, *([1] * (x.ndim - 1)))), np.tile(y, steps)
        began = time.perf_counter()
        model.fit(x, y, batch_size=case.batch, shuffle=False, verbose=0)
        return {"ms": 1e3 * (time.perf_counter() - began) / steps}


if __name__ == "__main__":
    obey(int(sys.argv[1]), _Job())
