"""What each replica reads: its own rows of every global batch, of whatever `fit` was given.

    fit's x ──► GlobalBatches ──► Step     one stream of batches, of which replicas take their rows
            ──► PerWorkerData ──► Step     workers that bring data of their own

Which rows of a batch are whose says `strategies.layout`.

`global_batches.py`: datasets, generators and arrays as global batches; what is refused of a
    dataset; `cache_data`; workers whose data end at different steps.
`per_worker.py`: `fit(lambda input_context: dataset)`: data of each worker's own, and one that runs
    out first.
`stream.py`: a stream of steps: epochs, `steps_per_epoch`, running out of data, a resumed position.
`arrays.py`: of arrays, each worker gathers its rows only.
`generators.py`: a Python generator, of which no batch is lost that was read ahead.
`map_pushdown.py`: of a dataset that maps before it batches, a worker maps its rows only, where that
    is the same.
`sharding.py`: a batch cut to this process's rows.
`resident.py`: arrays that lie on the GPUs as a whole (`data_on_device`): up to 1 GiB, or a tenth of
    the GPU memory that a task may use.
`fingerprint.py`: workers that read different data in a step: how it is found, why, the cure.
`position.py`: where a stream stands, so that another process can go there.
`iterator_state.py`: the state of an iterator without a seed.
`python_random.py`: the states of Python's and NumPy's generators, kept and brought to the chief's.
`iterator_cleanup.py`: why no `fit` waits for an iterator to be destroyed.
"""
