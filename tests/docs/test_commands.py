"""Every command of the README and the documentation is one that there is, and is accepted."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks, commands, with_commands
from tests.hosts.local_client import CLIENT
from tfdist import cli
from tfdist.cluster import Cluster

FIRST_WORDS = ("tfdist", "python", "scripts/", "pip")


def test_blocks_of_commands_hold_known_commands_alone() -> None:
    for page in with_commands():
        for block in blocks(page):
            if block.language == "sh" and not block.not_run:
                for line in filter(None, block.code.splitlines()):
                    assert line.startswith(FIRST_WORDS), f"{block}: {line}"


@pytest.mark.parametrize(
    "command",
    [one for one in commands("tfdist run ") if not one.endswith(("--help", "--help_all"))],
)
def test_a_job_is_accepted(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDIST_SSH", CLIENT)
    Path("hosts.txt").write_text("a slots=2\nb\n")
    Path("cluster_specs").symlink_to(ROOT / "cluster_specs")
    workers = [f"127.0.0.1:{port}" for port in range(29871, 29875)]
    Path("spec.json").write_text(json.dumps({"cluster": {"worker": workers}}))
    Path("job.toml").write_text(job_of_the_pages())
    assert cli.main(["run", "--dry-run", *shlex.split(command)[2:]]) == 0, capfd.readouterr().err
    shown = capfd.readouterr().out
    assert ("# job.toml" if command.endswith("--print_config") else "TF_CONFIG=") in shown


def job_of_the_pages() -> str:
    """The file that docs/running.md shows."""
    (file,) = [one.code for one in blocks(DOCS / "running.md") if one.language == "toml"]
    return file


@pytest.mark.parametrize("command", commands("tfdist submit kubernetes "))
def test_a_job_of_kubernetes_is_accepted(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "kubernetes", "--dry-run", *shlex.split(command)[3:]]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# docker build" if "--dockerfile" in command else "# What the tasks")


@pytest.mark.parametrize("command", commands("tfdist bench "))
def test_the_options_of_a_bench_are_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help-all"])
    told = capsys.readouterr().out
    assert all(word in told for word in shlex.split(command)[2:] if word.startswith("-"))


@pytest.mark.parametrize("command", commands("tfdist plan "))
def test_the_options_of_a_plan_are_there(command: str) -> None:
    from tfdist.planning.plan_command import plan_parser

    parser = plan_parser()
    own, script = parser.split(shlex.split(command)[2:])
    assert parser.parse_args(own).workers >= 2
    assert script


def test_the_modules_are_there() -> None:
    text = "".join(page.read_text() for page in with_commands())
    modules = set(re.findall(r"python -m ([\w.]+)|-m (tfdist[\w.]+)", text))
    for module in {one or other for one, other in modules}:
        assert importlib.util.find_spec(module), module


def test_the_scripts_are_there() -> None:
    text = "".join(page.read_text() for page in with_commands())
    for script in set(re.findall(r"\bscripts/\w+", text)):
        assert os.access(ROOT / script, os.X_OK), script


def test_the_specs_of_the_pages_are_specs() -> None:
    texts = re.findall(r"TF_CONFIG='(.*)'", (DOCS / "clusters.md").read_text())
    assert texts
    for text in texts:
        assert json.loads(Cluster.from_json(text).to_tf_config()) == json.loads(text)
