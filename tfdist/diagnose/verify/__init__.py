"""Whether a script trains on N workers as in one process, and where not, by which cause.

    orders          what a run is to be: one process or all workers, how many steps, which changes
    forking_task    a task of the job: has TensorFlow imported once, and forks a child for each run
    script_run      the child: makes the changes, runs the script, writes the record
    model_numbers   variables, logs and results as they are recorded
    recorder        what a step is seen to do: rows, layers, gradients, weights, logs
    change_names    what can be changed in a program
    script_changes  the changes to a program by which a cause is tried
    user_lines      which line of the user's program has called
    fold            arrays of any size as some numbers, which differ as the arrays do
    records         what a run leaves
    gathered        the records of all workers as one
    rounding        how far apart rounding alone may bring two runs
    comparison      the first difference of two runs
    causes          what can make them differ: the change to try, the words, the cure
    conductor       makes one run after the other until the cause is found
    verdict         what is told

Those in the middle, from `fold` on, import no TensorFlow.
"""
