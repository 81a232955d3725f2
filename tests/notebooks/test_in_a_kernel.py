"""`tfdist.run` and `%%tfdist` in a real kernel, as a notebook's cells call them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.support import is_alive, wait_until
from tests.notebooks.kernel import Kernel, Ran, kernel

DEFINITIONS = """
import os, sys, time
import tfdist

class Overrun(Exception):
    def __init__(self, limit, by):
        super().__init__(f"{limit} overrun")
        self.by = by

def work(n, fails=False):
    print("working on", n)
    if fails:
        raise Overrun(n, by=2)
    return {"n": n, "pid": os.getpid()}

def sleep():
    print("pid", os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("notebook")) as one:
        assert one.run(DEFINITIONS).error == ""
        yield one


def text_of(ran: Ran) -> str:
    return ran.shown[-1]["text/plain"]


def test_a_cells_function_runs_and_the_kernel_imports_no_tensorflow(notebook: Kernel) -> None:
    ran = notebook.run(
        "found = tfdist.run(work, 3)\n"
        "print(found['n'], found['pid'] != os.getpid(), 'tensorflow' in sys.modules)"
    )
    assert ran.error == "", ran.traceback
    assert ran.out == "3 True False\n"


def test_one_output_shows_a_bar_and_each_tasks_last_line(notebook: Kernel) -> None:
    ran = notebook.run("tfdist.run(work, 3);")
    assert len(ran.shown) > 1  # each in the place of the one before
    lines = text_of(ran).splitlines()
    assert re.search(r"^done +━+", lines[0])
    assert [line.rstrip() for line in lines[1:3]] == [
        "✓ worker:0 working on 3",
        "✓ worker:1 working on 3",
    ]
    assert ran.shown[-1]["text/html"].startswith("<pre ")
    assert ran.out == ""


def test_the_exception_is_that_of_the_cell_and_shows_its_line(notebook: Kernel) -> None:
    ran = notebook.run(
        "try:\n"
        "    tfdist.run(work, 3, fails=True)\n"
        "except Overrun as error:\n"
        "    print(error, error.by, error.__cause__)"
    )
    assert ran.error == ""
    assert ran.out.startswith("3 overrun 2")
    assert re.search(
        r'File "<cell In\[\d+\]>", line \d+, in work\n +raise Overrun\(n, by=2\)', ran.out
    )
    assert "✗ worker" in text_of(ran)


def test_a_cell_runs_as_a_script_and_brings_variables_there_and_back(notebook: Kernel) -> None:
    assert notebook.run("%load_ext tfdist\nx, y = [1, 2], 'two'").error == ""
    ran = notebook.run(
        "%%tfdist --workers 2 -i x,work -o z,name\n"
        "import tfdist.process\n"
        "name = str(tfdist.process.current().task)\n"
        "z = [2 * one for one in x]\n"
        "print(__name__, work(5)['n'], 'y' in globals())"
    )
    assert ran.error == "", ran.traceback
    assert ran.out == "working on 5\n__main__ 5 False\n"
    assert notebook.run("print(z, name)").out == "[2, 4] worker:0\n"


def test_a_cells_slips_are_told_in_one_sentence(notebook: Kernel) -> None:
    assert notebook.run("%load_ext tfdist").error == ""

    def said(line: str, cell: str = "pass") -> str:
        ran = notebook.run(f"%%tfdist {line}\n{cell}")
        return (ran.out + ran.traceback).strip()

    assert "unknown option '--worker'; did you mean '--workers'?" in said("--worker 2")
    assert "-i wrk: this notebook has no 'wrk'; did you mean 'work'?" in said("-i wrk")
    assert "strategy='pipelin'; did you mean 'pipeline'?" in said("--strategy pipelin")
    assert "line 2 of the cell, '!ls', is a command of the notebook" in said("", "x = 1\n!ls")
    assert "SyntaxError" in said("", "def")
    assert "-o zz: the cell has not defined 'zz'" in said("-o zz --workers 1")
    assert "example:\n  %%tfdist --workers 2 -i images,labels -o history" in said("--help")


def test_an_interrupt_ends_the_job_and_the_kernel_goes_on(notebook: Kernel) -> None:
    request = notebook.begin("tfdist.run(sleep, show='lines')")
    said = notebook.until(request, "worker:0] pid").out
    said += notebook.until(request, "worker:1] pid").out if "worker:1] pid" not in said else ""
    pids = [int(one) for one in re.findall(r"pid (\d+)", said)]
    notebook.manager.interrupt_kernel()
    assert notebook.end(request).error == "KeyboardInterrupt"
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)
    assert notebook.run("tfdist.run(work, 3, show='none')['n']").out == "3"


def test_no_process_is_left_when_the_kernel_is_killed(tmp_path: Path) -> None:
    with kernel(tmp_path) as one:
        one.run(DEFINITIONS)
        request = one.begin("tfdist.run(sleep, show='lines')")
        said = one.until(request, "worker:0] pid").out
        said += one.until(request, "worker:1] pid").out if "worker:1] pid" not in said else ""
        pids = [int(one) for one in re.findall(r"pid (\d+)", said)]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        one.manager.signal_kernel(9)
        wait_until(lambda: not any(is_alive(pid) for pid in pids))
