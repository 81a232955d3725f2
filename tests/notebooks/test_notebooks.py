"""Every notebook runs from top to bottom, and reads well as it is committed."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat import NotebookNode

from tests.conftest import ROOT
from tests.notebooks.execution import NOTEBOOKS, execute, read, twice

ROUNDING = 1e-5
"""Relative: the losses of SGD in float32, as everywhere in these tests."""

ABSOLUTE_PATH = re.compile(r"(?:^|(?<=[\s\"'`(=:,]))/[\w.-]+/[\w.-]+", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
TFDIST_LINE = re.compile(r"I\d\d:\d\d:\d\d tfdist\] .+")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from cell.outputs


def text_of(output: NotebookNode) -> str:
    """All that an output says; nothing where it is a picture."""
    if output.output_type == "stream":
        return COLOUR.sub("", output.text)
    if output.output_type == "error":
        return COLOUR.sub("", "\n".join(output.traceback))
    return "\n".join(text for kind, text in output.data.items() if kind.startswith("text/"))


def check_the_end(notebook: NotebookNode) -> None:
    """The last cell prints a difference no greater than rounding, then shows a picture."""
    cell = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    said = "".join(text_of(output) for output in cell.outputs[:-1])
    told = re.fullmatch(r"largest relative difference: ([\d.e+-]+)\n", said)
    assert told is not None, said
    assert float(told[1]) <= ROUNDING
    assert len(cell.outputs[-1].data["image/png"]) > 1000


def check_the_large_model(notebook: NotebookNode) -> None:
    """One process has not the memory for it; three workers have, and train it."""
    said = "".join(text_of(output) for output in outputs(notebook))
    assert "out of memory" in said
    assert "exit code 137" in said
    assert "all tasks ended well" in said
    accuracy = re.search(
        r"test accuracy: ([\d.]+)\s*$", said.split("out of memory")[1], re.MULTILINE
    )
    assert accuracy is not None, said
    assert float(accuracy[1]) > 0.8


def check_what_went_wrong(notebook: NotebookNode) -> None:
    """Each trouble was told by its name, and one job has gone on after it."""
    said = "".join(text_of(output) for output in outputs(notebook))
    assert "unknown key 'clutser'; did you mean 'cluster'?" in said
    assert re.search(r"caught after \d+ s of 60: 10 images for worker:1", said)
    assert re.search(r"started again\n(.*\n)+.*resuming after epoch 4", said)
    assert re.search(r"worker:1 was stopped \(SIGSTOP\) for \d+ s, and ended by tfdist", said)
    assert "wait_for_a_file has not returned within 5 s" in said
    assert re.search(r"worker:0's host: .*it waits for worker:1, which has said nothing for", said)
    assert re.search(r"worker:1's host: .*it waits for worker:0, which has said nothing for", said)
    assert "worker:0's host: resuming after epoch 4" in said


def check_the_strategies(notebook: NotebookNode) -> None:
    """A plan was made, and every strategy has trained."""
    said = "\n".join(text_of(output) for output in outputs(notebook))
    assert re.search(r"^take: (--workers \d+|--chief)", said, re.MULTILINE)
    assert {"1 worker", "2-stage pipeline"} <= set(
        re.findall(r"^ +\d+ MB  (.*)$", said, re.MULTILINE)
    )
    assert len(re.findall(r"loss after 8 epochs", said)) == 5


def check_the_own_step(notebook: NotebookNode) -> None:
    """The sound script is called equal, and the other one's fault is found."""
    said = "\n".join(text_of(output) for output in outputs(notebook))
    assert re.search(r"^equal to ", said, re.MULTILINE)
    differs = said.partition("differs: 2 workers do not train as one process does")[2]
    assert re.search(r"^ +cause +tf\.random in a step", differs, re.MULTILINE)
    assert re.search(r"^ +at +.*gan\.py, line \d+", differs, re.MULTILINE)


def check_the_ways(notebook: NotebookNode) -> None:
    """Four jobs of two have trained, each told in another way who takes part."""
    said = "\n".join(text_of(output) for output in outputs(notebook))
    assert len(re.findall(r"loss [\d.]+, replicas: 2", said)) == 4
    assert "worker:1, at fit-1.fit:" in said
    assert '"node7:' in said


def check_what_is_its_own(path: Path, notebook: NotebookNode) -> None:
    """What the text of one notebook says of its outputs."""
    checks = {
        "03_pipeline": check_the_large_model,
        "04_when_things_go_wrong": check_what_went_wrong,
        "05_choosing_a_strategy": check_the_strategies,
        "06_your_own_train_step": check_the_own_step,
        "07_one_machine_to_many": check_the_ways,
    }
    if path.stem in checks:
        checks[path.stem](notebook)


def check_no_path_and_no_error(notebook: NotebookNode) -> None:
    of_this_machine = [str(ROOT), str(Path.home()), sys.prefix, tempfile.gettempdir()]
    for output in outputs(notebook):
        said = text_of(output)
        assert output.output_type != "error", said
        assert ABSOLUTE_PATH.search(said) is None, said
        for path in of_this_machine:
            assert path not in said
        assert "Traceback" not in said
        assert "Error" not in said


def test_the_table_has_a_row_for_every_notebook() -> None:
    table = (ROOT / "notebooks" / "README.md").read_text()
    names = [path.name for path in NOTEBOOKS]
    assert "01_quickstart.ipynb" in names
    assert re.findall(r"^\| \[`(.+)`\]\(\1\) \|", table, re.MULTILINE) == names


@pytest.mark.timeout(360)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if number == 0 else pytest.mark.thorough)
        for number, path in enumerate(NOTEBOOKS)
    ],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_and_each_cell_runs_again(path: Path, tmp_path: Path) -> None:
    executed = execute(twice(read(path)), tmp_path)
    check_no_path_and_no_error(executed)
    check_the_end(executed)
    check_what_is_its_own(path, executed)


@each_notebook
def test_a_notebook_is_committed_with_its_outputs(path: Path) -> None:
    notebook = read(path)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    check_no_path_and_no_error(notebook)
    check_the_end(notebook)
    check_what_is_its_own(path, notebook)


@each_notebook
def test_a_committed_notebook_shows_no_noise(path: Path) -> None:
    for output in outputs(read(path)):
        said = text_of(output)
        assert "WARNING" not in said
        assert "INFO:" not in said
        if output.output_type == "stream" and output.name == "stderr":
            for line in said.splitlines():
                assert TFDIST_LINE.fullmatch(line), line
