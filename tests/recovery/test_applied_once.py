"""A worker dies at a chosen moment of its update, and the job ends with the bits of another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunJob

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(400)]

CASES = {
    "plain": ("within a server", "between servers", "after"),
    "state": ("between servers", "after"),
    "adam": ("within a server", "after"),
    "table": ("after",),
    "average": ("after",),
    "constraint": ("after",),
    "product": ("after",),
    "downpour": ("after",),
}
PAIRS = [(kind, moment) for kind, moments in CASES.items() for moment in moments]


@pytest.fixture(scope="module")
def found(run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("once")
    script = Path(__file__).with_name("applied_once.py")
    asked = [f"{kind}:{','.join(moments)}" for kind, moments in CASES.items()]
    ran = run_job(
        ["--workers", 2, "--ps", 2, "--max_restarts", 2 * len(PAIRS), script, folder, *asked],
        timeout=380,
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said[-6000:]
    assert said.count("was ended by SIGKILL") == len(PAIRS)
    seen: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return seen


@pytest.mark.parametrize(("kind", "moment"), PAIRS)
def test_each_update_is_made_once(kind: str, moment: str, found: dict[str, Any]) -> None:
    undisturbed, struck = found[kind][""], found[kind][moment]
    assert struck["iterations"] == undisturbed["iterations"] == 12
    assert struck["examples"] == undisturbed["examples"]
    assert struck["weights"] == undisturbed["weights"]
    assert struck["slots"] == undisturbed["slots"]
