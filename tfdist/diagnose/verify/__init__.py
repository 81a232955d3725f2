"""Whether a script trains on N workers as in one process, and where not, by which cause.

Only `recorder`, `script_changes`, `script_run` and `model_numbers` import TensorFlow at their top.

`orders.py`: what a run is to be: one process or all workers, how many steps, which changes.
`forking_task.py`: a task of the job: has TensorFlow imported once, and forks a child for each run.
`script_run.py`: the child: makes the changes, runs the script, writes the record; what it must not
    write.
`recorder.py`: what a step is seen to do: rows, layers, gradients, weights, logs.
`model_numbers.py`: variables, logs and results as they are recorded.
`change_names.py`: the names of what can be changed in a program.
`script_changes.py`: the changes to a program by which a cause is tried.
`user_lines.py`: which line of the user's program has called.
`fold.py`: arrays of any size as some numbers, which differ as the arrays do.
`records.py`: what a run leaves.
`gathered.py`: the records of all workers as one.
`rounding.py`: how far apart rounding alone may bring two runs.
`repeating.py`: whether one process does the same twice; else nothing can be compared.
`comparison.py`: the first difference of two runs, in the order of a step.
`causes.py`: what can make them differ: the change to try, the words, the cure.
`conductor.py`: makes one run after the other until the cause is found.
`verdict.py`: what is told: equal, differs, unable, unrepeated, and the exit code of each.
`verify_command.py`: `tfdist verify`: its options, and the folder of --keep, which must be one's
    own.
"""
