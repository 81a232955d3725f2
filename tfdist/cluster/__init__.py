"""Which machines a job has: the cluster spec and its tasks, as pure data.

Nothing here imports TensorFlow.

`spec.py`: `Cluster`: made from JSON, a file, TF_CONFIG or counts; who is chief, which tasks meet,
    its digest.
`parse.py`: the text of TF_CONFIG: which keys are known, unknown, given twice; JSON that is none.
`checks.py`: what a cluster's jobs must be: no empty job, no duplicate address, one chief, the jobs
    of each kind of strategy, a task that is in it.
`address.py`: "host:port": what is refused of it (no port, port 0, a scheme), and what is the
    loopback.
`task.py`: "worker:1": which jobs there are, "master" as chief, an index
    as a number or as digits, "did you mean".
`secret.py`: the job's secret: 16 to 4,096 characters, or a file that nobody else can open (chmod
    600).
`crew_size.py`: `--workers 1:4`, `--ps 1:2`: the fewest and the most; the settling time of a
    changing job (10 s).
"""

from __future__ import annotations

from tfdist.cluster.spec import Cluster
from tfdist.cluster.task import Task

__all__ = ["Cluster", "Task"]
