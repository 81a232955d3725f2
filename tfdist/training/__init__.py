"""Keras `fit`, `evaluate` and `predict` on every family of strategy.

`plugging.py`: `tfdist.plug`, with the help of its options.
`plug_options.py`: the options, which families take them, refusals; `--plug_options`.
`plugged.py`: a plugged model: what stands for `fit`, `evaluate`, `predict`, `train_on_batch`,
    `compile`, `save`.
`own_methods.py`: a class's own `fit` that calls `super().fit()`; one that takes steps by itself.
`autoplug.py`: `tfdist run --plug`: a script that never heard of tfdist.
`autostrategy.py`: the strategy of such a script, in place of its own; which of its strategies are
    refused.
`families.py`: which families there are: a line for each.
`building.py`: how a model's variables are all made before a step.
`model_checks.py`: which models are refused: stateful layers, not compiled, out of scope.
`model_parts.py`: a model's optimizers and variables, each once.
`mode.py`: what steps are taken for: "train", "test", "predict".
`tracing.py`: how tfdist's own functions are traced, without TensorFlow's warning.
`evaluator.py`: the evaluator's `fit`: which checkpoints it scores, how long it waits for a run to
    begin (180 s), when it ends.
`scaled_warmup.py`: `ScaledWarmup`: a learning rate scaled by the number of replicas.
`slot_timing.py`: `tfdist.pipeline.measure`.
`loop/`: the epoch loop, once for all families; callbacks, chunks of steps, saving.
`data/`: what each replica reads.
`peers/`: what workers in step tell each other, and of those that are lost.
`replica/`: what makes N replicas equal to one machine.
`tensor_parallel/`: weights of a layer on several devices.
`slot_shards/`: `shard_optimizer`.
`synchronous/`: the family of one device, mirrored and workers in step.
`parameter_server/`: the family with parameter servers.
`pipelined/`: the family of pipelines.
`embeddings/`: tables sharded over parameter servers.
`checkpointing/`: a job's state on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfdist.training.plugging import plug

__all__ = ["plug"]


def __getattr__(name: str) -> object:
    # TensorFlow is imported when it is needed: `autoplug` starts before the script that it runs.
    if name == "plug":
        from tfdist.compat.installed import check_versions

        check_versions()
        from tfdist.training.plugging import plug

        return plug
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
