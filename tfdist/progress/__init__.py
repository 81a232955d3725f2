"""How far a job is, and what its tasks spend their time on: measured, told, heard, put together.

    a task:      PhaseClock ──► Teller ──► a line of JSON, twice a second, in a pipe
    who started: RecordReader ──► JobProgress ──► JobView

Pure: imports no TensorFlow, and knows no terminal.
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
