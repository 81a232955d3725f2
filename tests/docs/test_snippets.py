"""Every Python block of the documentation runs; those of one kind of job share a job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, written_pages

SNIPPETS = [
    block
    for page in written_pages()
    for block in blocks(page)
    if block.language == "python" and page.name != "README.md"  # tests/test_readme.py runs it
]
JOBS = sorted({block.job for block in SNIPPETS if not block.not_run})


@pytest.mark.parametrize(
    "job",
    [pytest.param(job, marks=pytest.mark.thorough if job else []) for job in JOBS],
    ids=lambda job: job or "one process",
)
def test_the_snippets_run(job: str, tmp_path: Path) -> None:
    pages = list(dict.fromkeys(b.page for b in SNIPPETS if b.job == job and not b.not_run))
    launcher = ["tfdist", "run", *job.split(), "-m"] if job else []
    ran = subprocess.run(
        [sys.executable, "-m", *launcher, "tests.docs.snippets", job, *pages],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for page in pages:
        assert f"ran {page}" in ran.stdout


@pytest.mark.parametrize("block", [b for b in SNIPPETS if b.not_run], ids=str)
def test_a_snippet_that_is_not_run_is_python_and_says_why(block: Block) -> None:
    compile(block.code, block.page, "exec")
    assert len(block.not_run.split()) > 3
