"""How far a job is, and what its tasks spend their time on: measured, told, heard, put together.

    a task:      PhaseClock ──► Teller ──► a line of JSON, twice a second, in a pipe
    who started: RecordReader ──► JobProgress ──► JobView

Pure: imports no TensorFlow, and knows no terminal.

`phase_clock.py`: which moment of a `fit` is input, compute, exchange, callbacks or save.
`phase_seconds.py`: the seconds and shares of these phases.
`record.py`: the line of JSON that a task tells.
`teller.py`: when a task tells it (0.5 s), TFDIST_PROGRESS, and what is left out where nobody reads.
`job_progress.py`: who lags (it waits 25 % less of the time than another), who waits or is silent (5
    s), the speed of the last 15 s.
"""

from tfdist.progress.job_progress import JobProgress, JobView, TaskView
from tfdist.progress.phase_clock import PhaseClock
from tfdist.progress.phase_seconds import PHASES, Phase, PhaseSeconds
from tfdist.progress.record import Record, RecordReader, Span

__all__ = [
    "PHASES",
    "JobProgress",
    "JobView",
    "Phase",
    "PhaseClock",
    "PhaseSeconds",
    "Record",
    "RecordReader",
    "Span",
    "TaskView",
]
