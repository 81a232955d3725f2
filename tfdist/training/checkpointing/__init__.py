"""The state of a job on disk, whole at any moment.

A checkpoint is a `.keras` file, or a folder that parameter servers have written. Damaged ones are
passed over when a job resumes, and named in a warning.

`store.py`: which checkpoint a job resumes from (the newest that is whole; a damaged one is passed
    over for the one before it), how many stay, their names, not-finite.keras, checkpoint.json.
`damage.py`: whether a checkpoint is whole: cut off, overwritten, not there, a wrong checksum.
`replacing.py`: how files are written so that a reader never sees half of one: aside, flushed,
    renamed (folders change names in one step: `machine/swapped_names.py`).
`snapshot.py`: what a `.keras` checkpoint holds: a model's values at one moment, written while
    training goes on; the first weight that is not finite.
`background.py`: the thread that writes; an error of it is raised at the next.
`loading.py`: either kind, into a model whose parts are built.
`extra_parts.py`: what Keras leaves out: seeds of random layers, the state of the job.
`server_files.py`: whether the servers write themselves (from 256 MiB on, if all see the folder).
`server_copies.py`: copies of variables on their servers, and files of them.
`sharded_folder.py`: the folder of such a checkpoint: which files, which blocks of rows.
`server_reading.py`: bringing it into any number of shards; "is of another model".
"""
