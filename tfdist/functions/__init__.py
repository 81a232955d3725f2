"""A Python function as a job: `tfdist.run(function, ...)`.

    run_function.py ──► call.py      what is called, checked before anything starts
                    ├─► pickling.py  what travels between processes, by file, and what cannot
                    ├─► launch       one process for each task: called.py
                    ├─► view.py      one bar and each task's last line, while it runs
                    └─► outcome.py   what the tasks leave behind: a value, or an error with its type

The process that calls is never forked, and what it has imported stays as it is: TensorFlow starts
in the tasks.
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
