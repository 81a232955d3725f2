"""How the processes of a synchronous job stay equal, and what they say when they do not.

Sums: `packing` sums gradients and whatever else replicas have each a part of, in `buckets`, so that
the first are on their way while others are computed. Numbers: `all_gather`, and `byte_messages`
for what is no number. Agreement: `drift` and `hyperparameters` find models that have come apart.
Silence: `watchdog` says that nothing moves, `peer_errors` and `lost_servers` who has gone.
"""
