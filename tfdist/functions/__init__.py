"""A Python function as a job: `tfdist.run(function, ...)`.

The process that calls is never forked, and what it has imported stays as it is: TensorFlow starts
in the tasks, one process each, which run `called`.

`run_function.py`: the call: places where it is refused (in a task, in an import), the deadline,
    which error is raised here.
`job_options.py`: what `tfdist.run` takes beside the function, and what of it is refused.
`call.py`: the function and its arguments, checked and packed before anything starts; arguments that
    do not fit.
`pickling.py`: what travels between processes, and what cannot ("a tensor: ..."); functions of a
    notebook.
`keras_values.py`: how models, histories, tensors travel, and what is told instead of a dataset or
    strategy.
`called.py`: the program of each task; the strategy's scope around the function.
`outcome.py`: what a task leaves behind: a value, or an error with its type and traceback.
`history.py`: a `History` that has come back, without Keras.
`deadline.py`: where each task was when its time had passed.
`function_job.py`: a job of the launcher's that shows itself as its caller wishes, and which signal
    ended it.
`shared_folder.py`: the folder of caller and tasks, and the ones that killed callers have left.
`sources.py`: the lines of a notebook's cell in a traceback.
`cell.py`: `%%tfdist`: a cell as a script; the commands of a notebook that it refuses.
`view.py`: the bar, and each task's last line, while it runs; the launcher's options as keywords.
`screens.py`: whether that is drawn on a terminal, in a notebook, or nowhere.
"""

from __future__ import annotations

from tfdist.errors import LaunchError

try:
    import cloudpickle  # noqa: F401 (said here, and not in the middle of an import)
except ImportError as missing:
    raise LaunchError(
        "tfdist.run needs cloudpickle, which packs functions for other processes: "
        "pip install cloudpickle (or 'tfdist[functions]')"
    ) from missing
