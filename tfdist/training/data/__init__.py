"""What each replica reads: its own rows of every global batch, of whatever `fit` was given.

    fit's x ──► GlobalBatches ──► Step     one stream of batches, of which replicas take their rows
                  ├─ arrays                of arrays that every worker holds
                  └─ map_pushdown          of a dataset that maps elements before it batches them
            ──► PerWorkerData ──► Step     workers that bring data of their own

Both are a `stream.Stream`. `sharding` cuts batches, by `strategies.layout`, which says which rows
are whose; `resident` keeps arrays on GPUs; `fingerprint` tells workers that read different data;
`position`, `iterator_state` and `python_random` bring a stream to where another process has left
it.
"""
