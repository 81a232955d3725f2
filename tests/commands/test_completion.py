"""`tfdist completion`: real shells complete commands, options, choices and files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.interactive_shell import InteractiveShell
from tfdist import cli
from tfdist.completion_command import SHELLS

TYPED = [
    ("tfdist ru", "tfdist run "),
    ("tfdist submit sl", "tfdist submit slurm "),
    ("tfdist run --wo", "tfdist run --workers "),
    ("tfdist run --workers 2 --isolate a", "--isolate auto "),
    ("tfdist run --workers 2 solo", "2 solo_script.py "),
    ("tfdist run --config fit", "--config fit_job.toml "),
    ("tfdist submit kubernetes --dock", "kubernetes --dockerfile "),
    ("tfdist doctor --exch", "doctor --exchange "),
    ("tfdist completion z", "tfdist completion zsh "),
    ("tfdist vers", "tfdist version "),
]
"""What somebody types before the tab key, and what the shell makes of it."""


@pytest.fixture
def script(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Path:
    """The shell's script, in a folder with a file to complete."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert cli.main(["completion", shell]) == 0
    path = tmp_path / "_tfdist"
    path.write_text(capsys.readouterr().out)
    (tmp_path / "solo_script.py").write_text("")
    (tmp_path / "fit_job.toml").write_text("")
    return path


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes(script: Path) -> None:
    with InteractiveShell(["bash", "--norc", "--noprofile", "-i"], script.parent) as shell:
        shell.types("source ./_tfdist; echo re''ady\n", "ready\r")
        for typed, completed in TYPED:
            shell.types(f"{typed}\t", completed)
            shell.types("\x15\n", "> ")


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_completes(script: Path) -> None:
    with InteractiveShell(["zsh", "-f", "-i"], script.parent) as shell:
        shell.types("fpath+=$PWD; autoload -U compinit; compinit -u -D; echo re''ady\n", "ready\r")
        for typed, completed in TYPED:
            shell.types(f"{typed}\t", completed)
            shell.types("\x15\n", "> ")


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_completes(script: Path) -> None:
    asked = "\n".join(f"echo (complete -C '{typed}')[1]" for typed, _ in TYPED)
    ran = subprocess.run(
        ["fish", "--no-config", "-c", f"source _tfdist\n{asked}"],
        cwd=script.parent,
        env={"PATH": "/usr/bin:/bin", "HOME": str(script.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    offered = [line.partition("\t")[0] for line in ran.stdout.splitlines()]
    assert offered == [completed.split()[-1] for _, completed in TYPED]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_command_and_option(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    words = {*cli.COMMANDS, "slurm", "plug_options", "gpus_per_task", "rounds", "storage_class"}
    assert not [word for word in words if word not in script]
    assert "no_plug" not in script


def test_without_a_shell_they_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion"]) == 64
    assert "no shell; give bash, zsh, fish" in capsys.readouterr().err


def test_without_shtab_it_is_told_what_to_install() -> None:
    code = "import sys; sys.modules['shtab'] = None; from tfdist.cli import main; sys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", code, "completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 64
    assert "pip install 'tfdist[completion]'" in ran.stderr
