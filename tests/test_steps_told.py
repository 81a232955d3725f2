"""What a task tells of its steps, another process reads, and nobody else pays for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tfdist import steps_told
from tfdist.steps_told import FOLDER_VARIABLE, StepsReader

TELLS = """
from tfdist import steps_told
steps_told.begin(epochs=2, steps=4, rows=32)
steps_told.tell("train", 1, {"loss": 9.0}, 0)  # too soon after the last
steps_told.tell("train", 4, {"loss": 0.5, "vector": [1, 2]}, 1)
"""


def test_the_newest_is_read_as_it_comes(tmp_path: Path) -> None:
    reader = StepsReader(tmp_path)
    assert reader.newest() == {}
    subprocess.run(
        [sys.executable, "-c", TELLS],
        check=True,
        timeout=60,
        cwd=ROOT,
        env={
            "TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", '
            '"index": 1}}',
            FOLDER_VARIABLE: str(tmp_path),
        },
    )
    (found,) = reader.newest().values()
    assert list(reader.newest()) == ["worker:1"]
    assert (found.epoch, found.epochs, found.step, found.steps, found.rows) == (1, 2, 4, 4, 32)
    assert found.logs == {"loss": 0.5}
    assert len((tmp_path / "worker-1.steps").read_text().splitlines()) == 2
    with (tmp_path / "worker-1.steps").open("a") as file:
        file.write('{"at": 1.0, "step"')  # half a line
    assert reader.newest() == {"worker:1": found}


def test_nothing_is_told_where_nobody_listens() -> None:
    assert not steps_told.are_told()
    steps_told.begin(epochs=1, steps=None, rows=0)
    steps_told.tell("train", 1, {"loss": object()})
