"""What the commands tell of themselves: on one screen, in full, at once, whatever the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from tests.hosts.local_client import CLIENT
from tests.launch.support import compare_with_golden
from tfdist import cli
from tfdist.command_line import Parser
from tfdist.errors import EXIT_CODES
from tfdist.help_text import fitted, table
from tfdist.machine.signals import DEFAULT_GRACE
from tfdist.run_parser import run_parser
from tfdist.version import __version__

GOLDEN = Path(__file__).parent / "golden"
ENVIRON = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
SCREEN = 24, 80
"""The lines and columns that a terminal has where nobody has asked for more."""

PARSERS = {
    " ".join(filter(None, (name, below))): place
    for name, command in cli.COMMANDS.items()
    for below, place in command.parsers.items()
}


@pytest.fixture(autouse=True)
def _a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with contextlib.suppress(SystemExit):
        assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def parser_of(command: str) -> Parser:
    module, _, make = PARSERS[command].partition(":")
    parser = getattr(import_module(module), make)()
    assert isinstance(parser, Parser)
    return parser


# On one screen


@pytest.mark.parametrize("command", ["", "submit", *PARSERS])
@pytest.mark.parametrize("columns", [80, 100])
def test_each_help_fits_a_screen(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = shown(capsys, *command.split(), "--help")
    lines, widest = SCREEN
    assert len(text.splitlines()) <= lines, "give only the options that most need a brief text"
    assert max(map(len, text.splitlines())) <= max(widest, columns)
    assert "  tfdist " in text, "an example"


@pytest.mark.parametrize("command", PARSERS)
def test_the_whole_help_has_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, *command.split(), "--help-all")
    parser = parser_of(command)
    assert set(re.findall(r"^  (--\w+)", text, re.MULTILINE)) == {*parser.actions}
    assert parser.examples in text
    assert text == shown(capsys, *command.split(), "--help_all")


@pytest.mark.parametrize(
    ("arguments", "golden"),
    [
        (["--help"], "help.txt"),
        (["run", "--help"], "run_help.txt"),
        (["run", "--help-all"], "run_help_all.txt"),
    ],
)
def test_help_is_as_it_was(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], golden: str
) -> None:
    compare_with_golden(shown(capsys, *arguments), golden, GOLDEN)


def test_without_arguments_the_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == shown(capsys, "--help")


def test_the_whole_help_of_run_shows_every_exit_code_and_the_grace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(capsys, "run", "--help-all")
    for code, meaning in EXIT_CODES.items():
        assert f"  {code:>3}  {meaning[:60]}" in text
    assert f"(default: {DEFAULT_GRACE:g})" in text


def test_every_example_of_run_is_a_plan(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDIST_SSH", CLIENT)
    Path("spec.json").write_text(
        json.dumps({"cluster": {"worker": ["10.0.0.1:1", "10.0.0.2:1"]}}),
    )
    Path("job.toml").write_text('workers = 2\nscript = "train.py"\n')
    examples = re.findall(r"^  tfdist run (.*)$", run_parser().format_all(), re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        assert "TF_CONFIG=" in shown(capsys, "run", "--dry-run", *example.split())


# Whatever the terminal


@pytest.mark.parametrize("command", ["", *PARSERS])
def test_a_narrow_terminal_has_lines_as_narrow_but_for_commands(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for line in shown(capsys, *command.split(), "--help").splitlines():
        assert len(line) <= 40 or "tfdist " in line or " " not in line.strip(), line


@pytest.mark.parametrize("columns", ["0", "1", "none", "100000"])
def test_any_terminal_has_a_help(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for option in ("--help", "--help-all"):
        text = shown(capsys, "run", option)
        assert "--workers" in text
        assert max(map(len, text.splitlines())) < 120


def test_what_has_a_second_column_goes_on_in_it() -> None:
    assert fitted("   64  one two three four", 20) == "   64  one two three\n       four"
    assert fitted("  tfdist run --workers 2 train.py", 20) == "  tfdist run --workers 2 train.py"


def test_where_there_is_no_room_beside_a_name_the_text_is_below() -> None:
    rows = [("--a-long-name FILE", "one two three")]
    assert table(rows, 60) == "  --a-long-name FILE  one two three"
    assert table(rows, 30) == "  --a-long-name FILE\n      one two three"


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"NO_COLOR": ""}, {"FORCE_COLOR": "1"}])
def test_a_pipe_gets_no_escapes(environ: dict[str, str]) -> None:
    for arguments in (["--help"], ["run", "--help-all"], ["version"]):
        ran = subprocess.run(
            [sys.executable, "-m", "tfdist", *arguments],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "\x1b" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("arguments", ["--help", "run --help-all", "version --json", "rnu"])
def test_a_reader_that_leaves_is_no_trouble(arguments: str) -> None:
    read, write = os.pipe()
    os.close(read)  # nobody reads, from the first byte on
    with os.fdopen(write, "w") as pipe:
        ran = subprocess.run(
            [sys.executable, "-m", "tfdist", *arguments.split()],
            env=ENVIRON,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert "Broken" not in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.returncode in (0, 64, 141)


# At once


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--version") == f"tfdist {__version__}\n"


NO_TENSORFLOW = [
    ["--help"],
    ["run", "--help"],
    ["run", "--help-all"],
    ["run", "nowhere.py"],
    ["run", "--plug_options", "local_steps=2", "--dry_run", "train.py"],
    ["run", "--config", "job.toml", "--print-config"],
    ["version"],
    ["version", "--json"],
    ["doctor", "--help"],
    ["bench", "--help"],
    ["chaos", "--help"],
    ["submit", "slurm", "--help"],
    ["submit", "kubernetes", "--help"],
    ["completion", "--help"],
]


@pytest.mark.parametrize("arguments", NO_TENSORFLOW)
def test_nothing_heavy_is_imported_to_read_arguments(
    arguments: Sequence[str], tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "job.toml").write_text('script = "train.py"\n')
    code = (
        "import contextlib, sys\n"
        "from tfdist.cli import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'absl'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    ran = subprocess.run(
        command, env=ENVIRON, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["version"]])
def test_help_and_version_take_a_fifth_of_a_second_at_most(arguments: Sequence[str]) -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "tfdist", *arguments],
            env=ENVIRON,
            capture_output=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of the processor's: a busy machine takes its time.
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < 0.2
