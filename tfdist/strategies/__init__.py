"""From a cluster to a real `tf.distribute.Strategy`, and what is known of it while it trains.

`factory.py`: `tfdist.strategy`: which kind "auto" takes; a cluster that does not fit it.
`strategy_options.py`: its options, which kinds take them, "did you mean"; their refusals.
`current.py`: one strategy over machines in a process; "a second strategy".
`registry.py`: the replicas of each strategy; "was made outside of strategy.scope()"; the hint under
    Keras' error that a model was not plugged.
`layout.py`: which rows are whose: "global batch 256 = 4 replicas x 64". Pure.
`one_machine.py`: one device and mirrored: devices of this machine, threads.
`multi_worker.py`: workers in step: ring or NCCL ("gradients travel by ..."), and how long
    TensorFlow bears silence (twice the stall timeout and 10 s); SIGTERM until the first `fit`.
`parameter_server.py`: the asynchronous strategy, on the chief, and how variables are spread over
    servers (in turn); a worker or ps never returns.
`pipeline_strategy.py`: `PipelineStrategy`: which device runs which stage, and which jobs it needs.
`servers.py`: what workers and ps do as TensorFlow servers, and how a chief and they end.
`server_variables.py`: variables on servers: read and sent in few messages.
`startup.py`: tasks of a job come together; "all N tasks are here".
`own_gpus.py`: GPUs seen and given, and on which device replicas and workers of parameter servers
    compute; TFDIST_GPU_MEMORY; "COMPUTING ON THE CPU".
`logical_devices.py`: `logical_devices=2`: one device cut into several, and its memory.
`small_sums.py`: which sums go by a gather and not by the ring, by bytes (256 KiB at most) and
    replicas. Pure.
`sum_levels.py`: which sums of six replicas and more go level by level, within hosts first. Pure.
`stall_watch.py`: who stands still or is silent, of all kinds: whom it asks, after 6 s "it waits for
    worker:1, which ...", after `stall_timeout` (60 s) the end, by `TaskLost`.
`own_code.py`: the line of the user's code at which a process stands.
`fit_clock.py`: the seconds of a `fit`'s phases.
`step_clock.py`: how long graphs wait for input and for sums.
"""

from __future__ import annotations

from tfdist.strategies.factory import strategy
from tfdist.strategies.layout import ReplicaLayout

__all__ = ["ReplicaLayout", "strategy"]
