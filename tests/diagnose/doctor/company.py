"""Doctors for tests: several on this machine, each with its own task and variables, as threads."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfdist.cluster import Cluster
from tfdist.diagnose.doctor.examination import Examination
from tfdist.diagnose.doctor.finding import Finding, Report
from tfdist.machine.ports import Reservation

__all__ = ["Doctor", "a_spec", "all_of", "only", "together"]

DEADLINE = 60.0


@contextlib.contextmanager
def a_spec(folder: Path, workers: int = 2, ps: int = 0) -> Iterator[tuple[Path, Cluster]]:
    """A file with a cluster on this machine, whose ports stay reserved."""
    with Reservation(Cluster.task_count(workers, ps)) as reservation:
        cluster = Cluster.local(workers, ps, ports=reservation.ports)
        path = folder / "spec.json"
        path.write_text(cluster.to_tf_config())
        yield path, cluster


@dataclass
class Doctor:
    """One doctor, in a thread of its own."""

    spec: Path | None = None
    task: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    report: Report = field(default_factory=Report, init=False)
    exit_code: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        spec = None if self.spec is None else str(self.spec)
        settings = {"wait": 10.0, **self.settings}
        examination = Examination(self.environ, spec, self.task, **settings)
        self.report = examination.run()
        self.exit_code = self.report.exit_code

    def join(self) -> Doctor:
        self._thread.join(DEADLINE)
        assert self.exit_code is not None, f"the doctor of {self.task} has failed or still waits"
        json.dumps(self.report.to_json())
        return self


def together(*doctors: Callable[[], Doctor] | Doctor) -> list[Doctor]:
    """Waits for several that have begun."""
    return [(one if isinstance(one, Doctor) else one()).join() for one in doctors]


def all_of(report: Report, check: str, level: str = "") -> list[Finding]:
    """The findings of a check."""
    return [one for one in report.findings if one.check == check and level in ("", one.level)]


def only(report: Report, check: str, level: str) -> Finding:
    """The one finding of a check and level."""
    found = all_of(report, check, level)
    assert len(found) == 1, report.text()
    return found[0]
