"""A task of the job of `tfdist verify`: imports TensorFlow once, and forks a child for each run.

    python -m tfdist.diagnose.verify.forking_task FOLDER

A process that has imported TensorFlow but run no operation of it can be forked: it has no threads
of TensorFlow's. So each run of the script has a process as fresh as a new one, a second after it
was asked for. The first worker's task also runs the script in one process, and conducts: it reads
the records and decides what to run next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tfdist import process
from tfdist.diagnose.verify.change_names import FIXED_HASHES
from tfdist.diagnose.verify.orders import END, Asked, Order
from tfdist.diagnose.verify.records import Failure, Record

__all__ = ["main"]

_TICK = 0.02
_PATIENCE = 4.0  # after another worker's run has failed, until this one's is ended
_CLUSTER_VARIABLES = ("TF_CONFIG", "TFDIST_CLUSTER", "TFDIST_TASK", "TFDIST_LAUNCHED")


class Task:
    """This task.

    Args:
        folder: in which orders are given and records are left.
        asked: what to verify.
        worker: this task's number.
    """

    def __init__(self, folder: Path, asked: Asked, worker: int) -> None:
        self._folder = folder
        self._asked = asked
        self._worker = worker
        self._seen: set[int] = set()  # whose records of this run were looked at

    def obey(self, order: Order) -> None:
        """Does this task's part of a run."""
        children: dict[str, int] = {}
        for kind in order.kinds:
            if kind == "many" or self._worker == 0:
                children[kind] = self._fork(order, kind)
        self._wait(order, children)

    def records(self, order: Order) -> dict[str, list[Record]]:
        """Waits for a run's records, and reads them."""
        found: dict[str, list[Record]] = {}
        until = time.monotonic() + self._asked.limit + 2 * _PATIENCE
        for kind in order.kinds:
            count = self._asked.workers if kind == "many" else 1
            paths = [self._path(order, kind, worker) for worker in range(count)]
            while not all(path.exists() for path in paths) and time.monotonic() < until:
                time.sleep(_TICK)
            found[kind] = [
                Record.read(path)
                if path.exists()
                else Record(i, failure=Failure("", "it left no record"))
                for i, path in enumerate(paths)
            ]
        return found

    def _path(self, order: Order, kind: str, worker: int) -> Path:
        return order.folder(self._folder) / f"{kind}-{worker}.pickle"

    def _fork(self, order: Order, kind: str) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.setpgid(0, 0)
            self._become(order, kind)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _become(self, order: Order, kind: str) -> None:
        """Is the run, in the child."""
        from tfdist.launch.start import tie_to_parent

        tie_to_parent(os.getppid())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        log = order.folder(self._folder) / f"{kind}-{self._worker}.log"
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if kind != "many":
            for name in _CLUSTER_VARIABLES:
                os.environ.pop(name, None)
            os.environ["TFDIST_ENVIRONMENT"] = "alone"  # whatever a scheduler's variables say
        if FIXED_HASHES in order.changes and os.environ.get("PYTHONHASHSEED") != "1":
            os.environ["PYTHONHASHSEED"] = "1"  # read when Python starts
            module = "tfdist.diagnose.verify.forking_task"
            words = [sys.executable, "-m", module, str(self._folder), str(order.number), kind]
            os.execv(sys.executable, [*words, str(self._worker)])
        self.run(order, kind)

    def run(self, order: Order, kind: str) -> None:
        """Runs the script in this process, and leaves the record."""
        from tfdist.diagnose.verify.script_run import run_script

        if kind == "again":
            order = dataclasses.replace(order, jitter=order.jitter + 1)
        elif kind == "repeat":
            order = dataclasses.replace(order, jitter=0)
        record = run_script(self._asked, order, kind, self._worker)
        record.write(self._path(order, kind, self._worker))

    def _wait(self, order: Order, children: dict[str, int]) -> None:
        """Waits for the children; what hangs, or waits for one that has failed, is ended."""
        until = time.monotonic() + self._asked.limit
        ended_at: float | None = None
        self._seen.clear()
        while children:
            for kind, child in list(children.items()):
                if os.waitpid(child, os.WNOHANG)[0]:
                    del children[kind]
                    self._see_record(order, kind, "its process has ended without a word")
            now = time.monotonic()
            if ended_at is None and "many" in children and self._other_failed(order):
                ended_at = now + _PATIENCE
            if now > until or (ended_at is not None and now > ended_at):
                late = now > until
                for kind, child in children.items():
                    if kind != "many" and not late:
                        continue
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child, signal.SIGKILL)
                    why = "it was waiting for another worker"
                    why = f"it had not ended after {self._asked.limit:g} s" if late else why
                    self._see_record(order, kind, why)
            time.sleep(_TICK)

    def _see_record(self, order: Order, kind: str, why: str) -> None:
        path = self._path(order, kind, self._worker)
        if not path.exists():
            Record(self._worker, failure=Failure("", why)).write(path)

    def _other_failed(self, order: Order) -> bool:
        """Whether another worker's run has ended by an error."""
        for worker in set(range(self._asked.workers)) - self._seen - {self._worker}:
            path = self._path(order, "many", worker)
            if path.exists():
                self._seen.add(worker)
                if Record.read(path).failure is not None:
                    return True
        return False


def main(arguments: Sequence[str]) -> None:
    """Is one task of the job, or with a run's number, kind and worker, that run."""
    folder = Path(arguments[0])
    if len(arguments) > 1:
        _run_again(folder, int(arguments[1]), arguments[2], int(arguments[3]))
    own = process.current().task
    worker = 0 if own is None else own.index
    _import()
    for one in Asked.folders(folder):
        asked = Asked.read(one)
        task = Task(one, asked, worker)
        if worker == 0:
            from tfdist.diagnose.verify.conductor import Conductor

            Conductor(one, asked, task.obey, task.records).conduct()
        else:
            _follow(one, task)


def _run_again(folder: Path, number: int, kind: str, worker: int) -> NoReturn:
    """Is a run that Python had to be started anew for."""
    order = Order.read(folder, number)
    assert order is not None
    _import()
    Task(folder, Asked.read(folder), worker).run(order, kind)
    sys.stdout.flush()
    os._exit(0)


def _follow(folder: Path, task: Task) -> None:
    """Does what the conductor orders, until the end."""
    number = 1
    while True:
        order = Order.read(folder, number)
        if order is None:
            time.sleep(_TICK)
            continue
        if order.kinds == (END,):
            return
        if "many" in order.kinds:
            task.obey(order)
        number += 1


def _import() -> None:
    """What every run needs, and takes seconds; no operation may run here."""
    import keras
    import tensorflow

    del keras, tensorflow


if __name__ == "__main__":
    main(sys.argv[1:])
