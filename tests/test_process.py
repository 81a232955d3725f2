"""Who a process is: the same from its environment, from a launcher and from `cluster=`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tfdist.errors import ClusterError, StrategyError
from tfdist.process import rendezvous_timeout

SPEC = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"], "evaluator": ["127.0.0.1:3"]}}

BEFORE = """
import json, os, sys
import tfdist
from tfdist import process
"""
SAY = """
here = process.current()
print(json.dumps([str(here.task), here.is_chief, here.is_evaluator, tfdist.is_chief()]))
"""
PASSED = """
import os
spec = json.loads(os.environ.pop("SPEC"))
tfdist.strategy("one_device", cluster=tfdist.Cluster.from_json(spec))
"""


def said_by(code: str, **variables: str) -> list[object]:
    """What a process of its own says of itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TF_CONFIG", "TFDIST_"))}
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + code + SAY],
        env={**clean, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_process_without_a_cluster_is_alone_and_the_chief() -> None:
    assert said_by("") == ["None", True, False, True]


@pytest.mark.parametrize(
    ("job", "index", "said"),
    [
        ("worker", 0, ["worker:0", True, False, True]),
        ("worker", 1, ["worker:1", False, False, False]),
        ("evaluator", 0, ["evaluator:0", False, True, False]),
    ],
)
def test_the_environment_tells_who_a_process_is(
    job: str, index: int, said: list[object], tmp_path: Path
) -> None:
    spec = {**SPEC, "task": {"type": job, "index": index}}
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(SPEC))
    assert said_by("", TF_CONFIG=json.dumps(spec)) == said
    assert said_by("", TFDIST_CLUSTER=str(file), TFDIST_TASK=f"{job}:{index}") == said
    by_hand = f"os.environ['TF_CONFIG'] = {json.dumps(spec)!r}"
    assert said_by(by_hand) == said


def test_a_cluster_that_is_passed_tells_it_without_any_environment() -> None:
    """Every worker thought itself the chief, and the evaluator trained (a fault that was there)."""
    evaluator = {**SPEC, "task": {"type": "evaluator", "index": 0}}
    assert said_by(PASSED, SPEC=json.dumps(evaluator)) == ["evaluator:0", False, True, False]


def test_what_a_strategy_was_made_for_counts_more_than_the_environment() -> None:
    """A job of one worker that is passed, in a shell in which another job's TF_CONFIG is left."""
    other = {**SPEC, "task": {"type": "evaluator", "index": 0}}
    alone = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    said = said_by(PASSED, SPEC=json.dumps(alone), TF_CONFIG=json.dumps(other))
    assert said == ["worker:0", True, False, True]


def test_a_wrong_environment_is_told_where_it_is_asked() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CONFIG", '{"clutser": {}}')
        from tfdist import process

        patch.setattr(process, "_joined", None)
        with pytest.raises(ClusterError, match="clutser"):
            process.current()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_a_rendezvous_timeout_that_is_none_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDIST_RENDEZVOUS_TIMEOUT", text)
    with pytest.raises(StrategyError, match=f"TFDIST_RENDEZVOUS_TIMEOUT='{text}': give seconds"):
        rendezvous_timeout()
