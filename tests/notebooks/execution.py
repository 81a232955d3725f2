"""Executes a notebook as a person would who opens it and runs all cells, without a browser.

`python -m tests.notebooks.execution` executes every notebook in `notebooks/` and writes its outputs
into it; with words behind it, as `05 speed`, only those whose name has one of them. Do so after a
change, look at the result, and commit it.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.conftest import ROOT

__all__ = ["NOTEBOOKS", "execute", "read", "twice"]

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

_SET_BY_THE_NOTEBOOK = ("MPLBACKEND", "TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES")

_REWRITTEN = re.compile(r"[^\n]*\r(?!\n)|\r|\x1b\[K")
"""What `!command` leaves of its terminal, in which lines are written anew; colours stay."""


class _ThisPython(AsyncKernelManager):
    """A kernel of the running interpreter, whichever kernels are installed on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(
            argv=[
                *(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
                # What TensorFlow's C++ writes before its log level counts stays out of the cells.
                "--IPKernelApp.capture_fd_output=False",
            ],
            display_name="Python 3",
            language="python",
        )


def read(path: Path) -> NotebookNode:
    """Reads a notebook and checks that it is a valid one."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


def twice(notebook: NotebookNode) -> NotebookNode:
    """A copy in which every code cell stands twice, but for those that start a job.

    Args:
        notebook: The notebook.
    """
    doubled = copy.deepcopy(notebook)
    doubled.cells = []
    for cell in notebook.cells:
        doubled.cells.append(copy.deepcopy(cell))
        if cell.cell_type == "code" and not _starts_a_job(cell.source):
            again = copy.deepcopy(cell)
            again.id = f"{cell.id}-again"
            doubled.cells.append(again)
    return doubled


def _starts_a_job(source: str) -> bool:
    calls = ("tfdist.run(", "start(")  # the latter is notebook 07's own
    return source.startswith(("!", "%%tfdist")) or any(call in source for call in calls)


def execute(notebook: NotebookNode, folder: Path, deadline: float = 300) -> NotebookNode:
    """Runs all cells of a copy of a notebook in a fresh kernel, which ends with the last one.

    Args:
        notebook: The notebook.
        folder: Where the kernel runs, and where its temporary files go.
        deadline: Seconds for all cells together.

    Returns:
        The copy with its outputs.

    Raises:
        CellExecutionError: A cell raised an exception.
        CellTimeoutError: The deadline has passed in this cell.
    """
    executed = copy.deepcopy(notebook)
    end = time.monotonic() + deadline
    client = NotebookClient(
        executed,
        timeout_func=lambda cell: max(1.0, end - time.monotonic()),
        record_timing=False,
    )
    client.km = _ThisPython(connection_file=str(folder / "kernel.json"))
    environment = {
        name: value for name, value in os.environ.items() if name not in _SET_BY_THE_NOTEBOOK
    }
    environment |= {
        "IPYTHONDIR": str(folder / "ipython"),
        "TMPDIR": str(folder),
    }
    client.execute(env=environment, cwd=str(folder))
    executed.metadata.language_info = {"name": "python"}  # no version of this machine's Python
    for cell in executed.cells:
        if cell.cell_type == "code":
            cell.outputs = _tidied(cell.outputs)
    return executed


def _tidied(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Puts together what a stream said in several pieces, as a page shows it; the order stays."""
    tidied: list[NotebookNode] = []
    for output in outputs:
        last = tidied[-1] if tidied else None
        if last is not None and output.output_type == "stream" and output.name == last.get("name"):
            last.text += output.text
        else:
            tidied.append(output)
    for output in tidied:
        if output.output_type == "stream":
            output.text = _REWRITTEN.sub("", output.text)
    return tidied


def main(words: Sequence[str]) -> None:
    """Executes notebooks, and writes their outputs into them.

    Args:
        words: parts of the names of those that are executed; without any, all are.
    """
    for path in NOTEBOOKS:
        if words and not any(word in path.name for word in words):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            executed = execute(read(path), Path(folder), deadline=1200)
        nbformat.write(executed, path)  # type: ignore[no-untyped-call]
        print(f"executed {path.name} in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
