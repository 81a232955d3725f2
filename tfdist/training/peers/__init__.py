"""How the processes of a synchronous job stay equal, and what they say when they do not.

`packing.py`: sums over replicas: small tensors together, each type by itself.
`buckets.py`: which gradients travel together (4 MB), so that the first are on their way early.
`all_gather.py`: numbers of all workers, told to all; a worker in another call of `fit`.
`byte_messages.py`: bytes of all workers, as such numbers.
`drift.py`: models that have come apart: the hash that finds them, and whose values are taken over.
`hyperparameters.py`: layers and optimizers that are configured otherwise on a worker.
`watchdog.py`: a line alone, "nothing has moved for 60 s", and again after 120 s, 240 s; who hangs
    and what ends it: `strategies/stall_watch.py`.
`peer_errors.py`: TensorFlow's errors of a lost peer, in our words: `TaskLost`, `TaskLeft`, workers
    that run different things.
`lost_servers.py`: "chief:0 lost ps:0, and with it ...": servers without which there is no going on,
    a ps or a worker of a pipeline.
"""
