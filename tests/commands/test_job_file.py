"""`tfdist run --config`: a file that holds what the command line holds, which counts more."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.conftest import PYTHON, RunJob
from tests.launch.support import write_script
from tfdist import cli
from tfdist.job_file import JobFile
from tfdist.run_parser import run_parser
from tfdist.told_options import told_options

TOML = """\
workers = 2
max-restarts = 1
plug = true
isolate = "off"
grace = 2.5
env = ["SEED=1", "DEBUG"]
plug_options = {local_steps = 4, sync_batch = false}
hosts = ["a", "b"]
script = "train.py"
args = ["--epochs", "5", ""]
"""
YAML = """\
workers: 2
max-restarts: 1
plug: true
isolate: off
grace: 2.5
env: [SEED=1, DEBUG]
plug_options:
  local_steps: 4
  sync_batch: false
hosts: [a, b]
script: train.py
args: [--epochs, 5, ""]
"""


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("")


def split(text: str, *words: str, name: str = "job.toml") -> tuple[list[str], list[str]]:
    Path(name).write_text(text)
    return run_parser().split(["--config", name, *words])


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """The command of each task."""
    assert cli.main(["run", "--dry-run", *words]) == 0, capsys.readouterr().err
    blocks = capsys.readouterr().out.split("\n\n")
    return {block.split()[1]: block.split(" \\\n    ")[-1].strip() for block in blocks}


def refused(capsys: pytest.CaptureFixture[str], text: str, *words: str, end: str = "toml") -> str:
    Path(f"job.{end}").write_text(text)
    assert cli.main(["run", "--config", f"job.{end}", *words]) == 64
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


# What it holds


@pytest.mark.parametrize(("text", "name"), [(TOML, "job.toml"), (YAML, "job.yaml")])
def test_toml_and_yaml_hold_what_a_command_line_holds(text: str, name: str) -> None:
    own, command = split(text, name=name)
    options = run_parser().parse_args(own)
    assert (options.workers, options.max_restarts, options.plug, options.isolate) == (
        2,
        1,
        True,
        "off",
    )
    assert (options.grace, options.env, options.hosts) == (2.5, ["SEED=1", "DEBUG"], "a,b")
    assert options.plug_options == "local_steps=4,sync_batch=false"
    assert command == ["train.py", "--epochs", "5", ""]


def test_the_words_of_yaml_1_1_are_texts() -> None:
    """PyYAML's safe loader takes 1:4 for 64 and on for True."""
    own, _ = split("workers: 1:4\nisolate: on\nscript: train.py\n", name="job.yml")
    assert own == ["--workers=1:4", "--isolate=on"]


def test_a_module_and_a_range_of_workers() -> None:
    own, command = split('workers = "1:4"\nmodule = "package.module"\nargs = [5]\n')
    assert own == ["--workers=1:4"]
    assert command == ["-m", "package.module", "5"]


def test_variables_may_be_a_table() -> None:
    own, _ = split('[env]\nSEED = 1\nNAME = "x y"\nEMPTY = ""\n')
    assert run_parser().parse_args(own).env == ["SEED=1", "NAME=x y", "EMPTY="]


def test_a_job_runs_from_a_file(run_job: RunJob, tmp_path: Path) -> None:
    write_script(tmp_path, "print(name, sys.argv[1:])", "job.py")
    Path("job.toml").write_text('workers = 2\nscript = "job.py"\nargs = ["--workers", "7"]\n')
    ran = run_job(["--config", "job.toml"], timeout=30, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert sorted(ran.stdout.splitlines()) == [
        f"[worker:{n}] worker:{n} ['--workers', '7']" for n in range(2)
    ]


# Which counts


def test_options_of_the_line_count_more(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.toml").write_text('workers = 2\nplug = true\nscript = "train.py"\nargs = ["1"]\n')
    run = f"{PYTHON} -m tfdist.training.autoplug train.py 1"
    assert plan(capsys, "--config", "job.toml") == {"worker:0": run, "worker:1": run}
    assert [*plan(capsys, "--config=job.toml", "--workers", "1")] == ["worker:0"]
    before = plan(capsys, "--workers", "1", "--no-plug", "--config", "job.toml")
    assert before == {"worker:0": f"{PYTHON} train.py 1"}


def test_a_script_of_the_line_comes_with_its_own_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("other.py").write_text("")
    Path("job.toml").write_text('workers = 1\nscript = "train.py"\nargs = ["1"]\n')
    assert plan(capsys, "--config", "job.toml", "other.py") == {"worker:0": f"{PYTHON} other.py"}
    assert plan(capsys, "--config", "job.toml", "-m", "package", "2") == {
        "worker:0": f"{PYTHON} -m package 2"
    }


def test_print_config_shows_where_each_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.toml").write_text(
        'workers = 2\nplug = true\nenv = ["A=1"]\nmax_restarts = 3\nhosts = "a,b"\n'
        'script = "train.py"\nargs = ["-x"]\n'
    )
    words = ["--max-restarts", "1", "--env", "B=2", "--no-plug"]
    assert cli.main(["run", "--config", "job.toml", *words, "--print-config"]) == 0
    shown = capsys.readouterr().out
    rows = [line.split("  # ") for line in shown.splitlines()]
    assert {text.strip(): source for text, source in rows} == {
        "workers = 2": "job.toml",
        'hosts = "a,b"': "job.toml",
        'env = ["A=1", "B=2"]': "job.toml and the command line",
        "plug = false": "the command line",
        "max_restarts = 1": "the command line",
        'script = "train.py"': "job.toml",
        'args = ["-x"]': "job.toml",
        "ps = 0": "default",
        'threads = "auto"': "default",
        "grace = 5.0": "default",
        'isolate = "auto"': "default",
        "settle = 10.0": "default",
        'progress = "auto"': "default",
    }
    Path("again.toml").write_text(shown)
    assert cli.main(["run", "--config", "again.toml", "--print-config"]) == 0
    again = capsys.readouterr().out
    assert tomllib.loads(again) == tomllib.loads(shown)


@given(
    workers=some.integers(0, 99),
    restarts=some.none() | some.integers(0, 9),
    grace=some.floats(0, 1e6, allow_nan=False),
    plug=some.booleans(),
    folder=some.text(some.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda text: "\r" not in text
    ),
    args=some.lists(some.text(some.characters(exclude_categories=["Cs"]))),
)
def test_what_print_config_shows_is_read_as_the_same(
    workers: int, restarts: int | None, grace: float, plug: bool, folder: str, args: list[str]
) -> None:
    words = [f"--workers={workers}", f"--grace={grace!r}", f"--log_dir={folder}"]
    words += ["--plug"] * plug + ([] if restarts is None else [f"--max_restarts={restarts}"])
    parser = run_parser()
    own, command = parser.split([*words, "train.py", *args])
    Path("shown.toml").write_text(told_options(parser, own, command), encoding="utf-8", newline="")
    again, same = run_parser().split(["--config", "shown.toml"])
    assert same == command
    options = vars(run_parser().parse_args(again))
    assert options == vars(run_parser().parse_args(own))


# What is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worker = 2", "job.toml: unknown key 'worker'; did you mean 'workers'?"),
        ("scrip = 'a.py'", "job.toml: unknown key 'scrip'; did you mean 'script'?"),
        ("xyzzy = 2", "unknown key 'xyzzy'; the keys are the options of tfdist run, script, mod"),
        ("config = 'b.toml'", "job.toml: unknown key 'config'"),
        ("workers = 'two'", "--workers: 'two' is not a number of tasks; give 0, 1, 2, ...; see t"),
        ("workers = 'two'", "; job.toml has workers = two"),
        ("workers = 2.5", "'2.5' is not a number of tasks"),
        ("workers = true", "job.toml: workers = true; give a text or a number"),
        ("workers = [1]", "job.toml: workers = [1]; give a text or a number"),
        ("log_dir = ''", 'job.toml: log_dir = ""; give a text or a number'),
        ("log_dir = 2026-01-01", "job.toml: log_dir = 2026-01-01; give a text or a number"),
        ("plug = 1", "job.toml: plug = 1; give true or false"),
        ("plug = 'true'", 'job.toml: plug = "true"; give true or false'),
        ("isolate = 'onn'", "'onn' is none of auto, on, off; did you mean 'on'?; see"),
        ("env = []", "job.toml: env = []; give texts, as a list, or a table, or leave it out"),
        ("hosts = {a = 1}", 'job.toml: hosts = {"a": 1}; give texts, as a list'),
        ("args = {day = 2026-11-27}", 'args = {"day": "2026-11-27"}; give a list, as'),
        ("env = [[2026-11-27]]", 'env = ["2026-11-27"]; give texts, as a list, or a table'),
        ("env = {DAY = 2026-11-27}", "env.DAY = 2026-11-27; give a text or a number"),
        ("plug_options = {a = ''}", 'plug_options.a = ""; give a text or a number'),
        (f"args = {'[' * 3000}", "--config job.toml: lists in lists, too deep to be read"),
        ("args = '--epochs 5'", 'args = "--epochs 5"; give a list, as ["--epochs", "5"]'),
        ("args = ['5']", "job.toml: args without script or module, whose they are; give one"),
        ("script = 'a.py'\nmodule = 'a'", "job.toml: script and module; give one of them"),
        ("log_dir = 'a'\nlog-dir = 'b'", "log_dir twice, with dashes and with underscores"),
        ("workers = 2\nworkers = 3", "--config job.toml: Cannot overwrite a value (at end"),
        ("workers = ", "--config job.toml: Invalid value (at end of document)"),
        ("workers = 2", "no script; give script.py or -m package.module after the options"),
        ("script = 'nowhere.py'", "no script 'nowhere.py' here"),
    ],
)
def test_a_wrong_file_is_one_clear_line(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers: 2\nworkers: 3", "--config job.yaml: workers twice; give it once"),
        ("[2]", "--config job.yaml: no keys with values in it, as workers: 2"),
        ("workers: [", "--config job.yaml: while parsing a flow node"),
        ("plug: yes", 'job.yaml: plug = "yes"; give true or false'),
        ("log_dir:", 'job.yaml: log_dir = ""; give a text or a number'),
        ("env: {A: 1, A: 2}", "--config job.yaml: A twice; give it once"),
    ],
)
def test_a_wrong_yaml_is_one_clear_line(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, text, end="yaml")


def test_options_that_do_not_go_together_are_told_with_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'workers = 2\nscript = "train.py"\n'
    told = refused(capsys, text, "--cluster", "spec.json")
    assert "--workers with --cluster, whose file says" in told
    assert told.endswith("; job.toml has workers = 2\n")
    told = refused(capsys, text, "--workers", "two")
    assert "job.toml" not in told  # it is the line's
    monkeypatch.setenv("TFDIST_HOSTS", "a,b")
    monkeypatch.setenv("TFDIST_RANK", "0")
    told = refused(capsys, text)
    assert "--workers starts a job of its own" in told
    assert told.endswith("; job.toml has workers = 2\n")


def test_options_of_plug_without_plug_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    text = 'plug_options = {local_steps = 4}\nscript = "train.py"\n'
    told = refused(capsys, text, "--no-plug")
    assert "--no_plug with --plug_options, which are for --plug; leave one of them out" in told
    assert told.endswith("; job.toml has plug_options = local_steps=4\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "nowhere.toml"], "--config nowhere.toml: it cannot be read: No such file"),
        (["--config", "job.json"], "--config job.json: give a file that ends in .toml, .yaml or"),
        (["--config"], "argument --config: expected one argument"),
        (["--config="], "argument --config: expected one argument"),
        (["--config", "a.toml", "--config", "b.toml"], "--config a.toml and b.toml; give one file"),
    ],
)
def test_a_file_that_is_none_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", *words]) == 64
    assert message in capsys.readouterr().err


def test_yaml_without_pyyaml_says_what_to_install() -> None:
    Path("job.yaml").write_text("workers: 2\n")
    code = "import sys; sys.modules['yaml'] = None; from tfdist.cli import main; sys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", code, "run", "--config", "job.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 64
    assert "pip install 'tfdist[yaml]', or write TOML" in ran.stderr


# Other commands that take a job


def test_pods_need_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.toml").write_text('threads = 3\nscript = "train.py"\nargs = ["x"]\n')
    words = ["submit", "kubernetes", "--image", "fit:1", "--dry-run", "run", "--config", "job.toml"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "--threads=3" in shown
    assert "job.toml" not in shown
    Path("job.toml").write_text('workers = 3\nscript = "train.py"\n')
    assert cli.main(words) == 64
    assert "run --workers; a pod is one task of the job" in capsys.readouterr().err


def test_a_file_is_read_as_an_object() -> None:
    Path("job.toml").write_text('workers = 2\nplug = false\nscript = "a.py"\n')
    file = JobFile.read("job.toml", {"workers": True, "plug": False})
    assert file.options == {"workers": ("2",)}
    assert file.flags == {"plug": False}
    assert file.words == ["--no_plug", "--workers=2"]
    assert file.shown("plug") == "job.toml has plug = false"
