"""Optimizer slots shared out over the replicas (ZeRO: Rajbhandari et al., 2020, stages 1 and 2).

Each replica keeps a share of every slot, is sent the others' gradients of it, updates it, and all
gather the new weights. Which optimizers can be cut so stands in `compat.keras_slots`.

`cut.py`: which part of a variable each replica has. Pure.
`sharded_optimizer.py`: one optimizer with shares; what it refuses; clipping by norms.
`sharded_slots.py`: all optimizers of a model; when gradients are summed as ever; how large slots
    are.
`share_exchange.py`: gradients to whom they belong, weights gathered.
`slot_transport.py`: shares shown to all workers, in messages of a few MB.
`whole_slots.py`: whole slots for who writes or reads a file.
"""
