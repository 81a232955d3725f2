"""Runs the Python blocks of pages, each page in a namespace of its own.

    python -m tests.docs.snippets "" README.md docs/data.md          those of one process
    tfdist run --workers 2 -m tests.docs.snippets "--workers 2" docs/data.md

A page finds 1,000 examples `x` and `y`, and an empty folder. What a line `print(...)  # text`
prints must hold the text. Nothing of `tests.conftest` is imported: it takes a job's variables away.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.docs.pages import ROOT, Block, blocks

_PRINTS = re.compile(r"^print\(.*\)\s+# (.+)$", re.MULTILINE)


def main(job: str, pages: list[str]) -> None:
    """Runs the blocks that are marked with this job."""
    if not job:
        import tfdist

        # Before TensorFlow's first operation, for the pages that ask for it later.
        tfdist.strategy("mirrored", logical_devices=2)
    for page in pages:
        x = np.random.default_rng(0).normal(size=(1000, 8)).astype("float32")
        names: dict[str, Any] = {"__name__": page, "x": x, "y": x.sum(axis=1, keepdims=True)}
        folder = Path(page.replace("/", "-"))
        folder.mkdir(exist_ok=True)  # the job's other tasks make it, too
        with contextlib.chdir(folder):
            for block in blocks(ROOT / page):
                if block.language == "python" and block.job == job and not block.not_run:
                    run(block, names)
        print(f"ran {page}", flush=True)


def run(block: Block, names: dict[str, Any]) -> None:
    """Runs one block; a traceback names the page and its line."""
    text = "\n" * (block.line - 1) + block.code
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(text, block.page, "exec"), names)
    print(out.getvalue(), end="")
    for said in _PRINTS.findall(block.code):
        assert said in out.getvalue(), f"{block} says {said!r}, but prints {out.getvalue()!r}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
