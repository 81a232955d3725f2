"""Optimizer slots shared out over the replicas (ZeRO: Rajbhandari et al., 2020, stages 1 and 2).

Each replica keeps a share of every slot (`cut`), is sent the others' gradients of it, updates it,
and all gather the new weights (`share_exchange`). `sharded_optimizer` has one optimizer do that,
`sharded_slots` all of a model; whoever writes a file sees them whole (`whole_slots`). Which
optimizers can be cut so stands in `compat.keras_slots`.
"""
