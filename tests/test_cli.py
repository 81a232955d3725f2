"""The command `tfdist`: what it accepts, what it refuses, and how a job runs from it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PYTHON, RunJob
from tests.environments import slurm_step
from tests.launch.support import write_script
from tfdist import cli
from tfdist.errors import ClusterError
from tfdist.run_parser import run_parser
from tfdist.training.plug_options import keywords_from

ENVIRON = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "train.py").write_text("")


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """The command of each task of `tfdist run --dry-run`."""
    assert cli.main(["run", "--dry-run", *arguments]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    return {block.split()[1]: block.split(" \\\n    ")[-1].strip() for block in blocks}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which the command refuses its arguments."""
    assert cli.main(arguments) == ClusterError.exit_code == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tfdist: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("train.py --workers 2", "--workers"),
        ("train.py --epochs 3 --plug", "--plug"),
        ("-m package --ps=1", "--ps"),
        ("--workers 2 train.py --workers 4", ""),
        ("train.py --max_restarts 3", ""),
        ("train.py workers", ""),
    ],
)
def test_options_behind_the_script_are_told_to_be_its_own(
    line: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else who types them there trains on one worker, and wonders."""
    assert cli.main(["run", "--dry-run", *line.split()]) == 0
    script = "package" if "-m" in line.split() else "train.py"
    told = f"[tfdist] {name} stands behind {script}, which gets it: options of tfdist run stand "
    assert capsys.readouterr().err == (f"{told}before the script\n" if name else "")


def test_a_module_that_is_not_there_starts_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = refused(capsys, "run", "--workers", "2", "-m", "nosuchpackage.train")
    assert "no module 'nosuchpackage.train' here; give one that `python -m` finds" in told
    (tmp_path / "nosuchpackage").mkdir()
    (tmp_path / "nosuchpackage" / "train.py").write_text("print('here')")
    assert cli.main(["run", "--isolate", "off", "-m", "nosuchpackage.train"]) == 0


# What it accepts


@pytest.mark.parametrize(
    ("options", "tasks"),
    [
        ("", "worker:0"),
        ("--workers 2", "worker:0 worker:1"),
        ("--workers=2 --chief", "chief:0 worker:0 worker:1"),
        ("--workers 0 --chief", "chief:0"),
        ("--workers 2 --evaluator", "worker:0 worker:1 evaluator:0"),
        ("--workers 2 --ps 1", "chief:0 worker:0 worker:1 ps:0"),
        ("--workers 1 --ps 2 --chief", "chief:0 worker:0 ps:0 ps:1"),
        ("--ps 1 --evaluator", "chief:0 worker:0 ps:0 evaluator:0"),
    ],
)
def test_counts_make_a_cluster(
    capsys: pytest.CaptureFixture[str], options: str, tasks: str
) -> None:
    assert list(dry_run(capsys, *options.split(), "train.py")) == tasks.split()


def test_what_follows_the_script_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--workers", "3", "--help", "--", "-m", "--unknown", "train.py"]
    commands = dry_run(capsys, "--workers", "1", "train.py", *own)
    assert commands == {"worker:0": f"{PYTHON} train.py {' '.join(own)}"}


@pytest.mark.parametrize("given", [["-m", "package.module"], ["-mpackage.module"]])
def test_what_follows_the_module_is_its_own(
    capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    commands = dry_run(capsys, *given, "--task", "classify")
    assert commands == {"worker:0": f"{PYTHON} -m package.module --task classify"}


def test_a_script_may_be_named_like_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(capsys, "--", "--plug").popitem()[1] == f"{PYTHON} --plug"


def test_plug_starts_the_script_through_the_module_that_plugs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = dry_run(capsys, "--plug", "train.py", "--plug")
    assert commands == {"worker:0": f"{PYTHON} -m tfdist.training.autoplug train.py --plug"}


def test_the_options_of_plug_go_to_the_module_that_plugs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = "gradient_dtype=bfloat16,error_feedback=true"
    commands = dry_run(capsys, "--plug_options", given, "train.py", "--plug_options", "mine")
    module = f"{PYTHON} -m tfdist.training.autoplug"
    assert commands == {"worker:0": f"{module} --options {given} train.py --plug_options mine"}


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        ("", {}),
        ("local_steps=4, outer-momentum=0.9", {"local_steps": 4, "outer_momentum": 0.9}),
        ("gradient_dtype=bfloat16,error_feedback=True", {"gradient_dtype": "bfloat16"}),
        ("shard_embeddings_from=none", {"shard_embeddings_from": None}),
        ("memory_limit=2e9", {"memory_limit": 2e9}),
    ],
)
def test_the_options_of_plug_are_read_as_keywords(text: str, keywords: dict[str, object]) -> None:
    assert keywords.items() <= keywords_from(text).items()


@pytest.mark.parametrize("dash", ["-", "_"])
def test_options_may_be_spelt_with_dashes_or_underscores(dash: str) -> None:
    parser = run_parser()
    given = ["--log-dir", "a-b", "--rendezvous-timeout=3", "--dry-run", "x-y.py", "--my-flag"]
    given[:4] = [word.replace("-", dash).replace(dash * 2, "--") for word in given[:4]]
    given[1] = "a-b"
    own, command = parser.split(given)
    options = parser.parse_args(own)
    assert (options.log_dir, options.rendezvous_timeout, options.dry_run) == ("a-b", 3.0, True)
    assert command == ["x-y.py", "--my-flag"]


def write_spec(cluster: dict[str, list[str]], **more: object) -> str:
    Path("spec.json").write_text(json.dumps({"cluster": cluster, **more}))
    return "spec.json"


def test_a_file_of_this_machine_starts_all_its_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_spec({"worker": ["localhost:2301", "127.0.0.1:2302"]})
    assert list(dry_run(capsys, "--cluster", spec, "train.py")) == ["worker:0", "worker:1"]


def test_a_file_of_several_machines_starts_the_task_that_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = write_spec({"worker": ["10.0.0.1:2301", "10.0.0.2:2301"]})
    options = ["--cluster", spec, "--task", "worker:1"]
    assert list(dry_run(capsys, *options, "train.py")) == ["worker:1"]


def test_a_task_in_the_file_is_the_one_that_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = {"worker": ["10.0.0.1:2301", "10.0.0.2:2301"]}
    spec = write_spec(cluster, task={"type": "worker", "index": 1})
    assert list(dry_run(capsys, "--cluster", spec, "train.py")) == ["worker:1"]
    options = ["--cluster", spec, "--task", "worker:0"]
    assert list(dry_run(capsys, *options, "train.py")) == ["worker:0"]


def test_a_task_that_a_platform_has_named_is_the_one_that_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"worker": ["10.0.0.1:2301", "10.0.0.2:2301"]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert list(dry_run(capsys, "train.py")) == ["worker:1"]
    assert list(dry_run(capsys, "--workers", "1", "train.py")) == ["worker:0"]


def test_a_task_that_a_scheduler_has_started_is_one_of_its_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm_step.SECOND_OF_TWO.items():
        monkeypatch.setenv(name, value)
    assert list(dry_run(capsys, "train.py")) == ["worker:1"]
    said = refused(capsys, "run", "--workers", "2", "train.py")
    assert "--workers starts a job of its own, but Slurm has started several of these" in said
    monkeypatch.setenv("TFDIST_ENVIRONMENT", "alone")
    assert list(dry_run(capsys, "--workers", "2", "train.py")) == ["worker:0", "worker:1"]


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("rum", "unknown command 'rum'; did you mean 'run'?; the commands are run, submit, "),
        ("--verison", "unknown option '--verison'; did you mean '--version'?; see tfdist --help"),
        ("doctor --exchnge", "unknown option '--exchnge'; did you mean '--exchange'?"),
        ("doctor a.json b.json", "unexpected 'b.json'; see tfdist doctor --help"),
        ("chaos --round 5 -- run train.py", "unknown option '--round'; did you mean '--rounds'?"),
        ("submit slrum train.py", "submit to 'slrum'; did you mean 'slurm'?; the schedulers are"),
        ("completion bosh", "'bosh' is none of bash, zsh, fish; did you mean 'bash'?"),
        ("run --isolate onn train.py", "'onn' is none of auto, on, off; did you mean 'on'?"),
        ("bench --model cn", "argument --model: 'cn' is none of tiny, mlp, cnn, lstm; did you"),
        ("run", "no script; give script.py or -m package.module after the options"),
        ("run -m", "no script; give script.py or -m package.module after the options"),
        ("run --worker 2 train.py", "unknown option '--worker'; did you mean '--workers'?"),
        ("run --cluster", "argument --cluster: expected one argument"),
        ("run --plug=1 train.py", "argument --plug: ignored explicit argument '1'"),
        ("run --workers two train.py", "argument --workers: 'two' is not a number of tasks"),
        ("run --workers -1 train.py", "argument --workers: "),
        ("run --workers 0 train.py", "no worker and no chief"),
        ("run --workers 0 --ps 1 train.py", "no worker in the cluster (1 chief, 1 ps)"),
        ("run --plug_options local_step=4 train.py", "no option 'local_step'; did you mean"),
        ("run --plug-options gradient_dtype=half train.py", "gradient_dtype='half': give 'bfloat"),
        ("run --plug_options local_steps train.py", "'local_steps' among plug's options; write na"),
        ("run --plug_options local_steps=two train.py", "local_steps='two': give a number"),
        (
            "run --plug_options outer_momentum=a,local_steps=2 train.py",
            "outer_momentum='a': give a",
        ),
        ("run --plug_options local_steps=2,local_steps=3 train.py", "local_steps twice among plug"),
        ("run --plug_options cache_data=1 train.py", "cache_data=1: give true or false"),
        ("run --plug_options costs=3 train.py", "measured costs can only be given in a script"),
        ("run --plug_options fetch_every=2 train.py", "fetch_every means nothing to the synchro"),
        ("run --ps 1 --plug_options local_steps=2 train.py", "local_steps means nothing to the pa"),
        ("run --threads 0 train.py", "argument --threads: '0' is not a number of threads"),
        ("run --grace soon train.py", "argument --grace: 'soon' is not a number of seconds"),
        ("run --grace inf train.py", "argument --grace: 'inf' is not a number of seconds"),
        ("run --max_restarts -1 train.py", "argument --max_restarts: "),
        ("run --max-restarts all train.py", "'all' is not a number of restarts; give 0, 1, 2"),
        ("run --rendezvous_timeout 0 train.py", "'0' is not a time to wait; give seconds above 0"),
        ("run --hosts a --stall_timeout inf train.py", "'inf' is not a time to wait; give seconds"),
        ("run nowhere.py", "no script 'nowhere.py' here"),
        ("run --task worker:1 train.py", "--task without --cluster"),
        ("run --cluster nowhere.json train.py", "'nowhere.json' that cannot be read"),
        ("run --cluster spec.json --workers 2 train.py", "--workers with --cluster"),
        ("run --cluster spec.json --evaluator train.py", "--evaluator with --cluster"),
        ("run --cluster spec.json --task worker:2 train.py", "task index out of range: worker:2"),
        ("run --cluster spec.json --task work:1 train.py", "unknown job 'work'"),
        (
            "run --cluster spec.json train.py",
            "not on this machine: worker:1 (192.0.2.1:2301); start each task on its own machine",
        ),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    write_spec({"worker": ["127.0.0.1:2301", "192.0.2.1:2301"]})  # the latter is nobody's address
    assert message in refused(capsys, *arguments.split())


def test_a_job_cannot_have_an_evaluator_in_a_cluster_with_servers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = ("chief", "worker", "ps", "evaluator")
    spec = write_spec({job: [f"127.0.0.1:{2301 + n}"] for n, job in enumerate(jobs)})
    message = refused(capsys, "run", "--cluster", spec, "train.py")
    assert "evaluator in the cluster (1 chief, 1 worker, 1 ps, 1 evaluator)" in message


def test_logs_that_cannot_be_written_are_no_wrong_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["run", "--log_dir", "train.py", "train.py"]) == 1
    assert "tfdist: log folder train.py that cannot be made" in capsys.readouterr().err


# Running


def test_a_job_runs_from_the_command_line(run_job: RunJob, tmp_path: Path) -> None:
    script = write_script(tmp_path, "print(name, sys.argv[1:])", "job.py")
    ran = run_job(["--workers", 2, script, "--workers", 7], timeout=30)
    assert ran.returncode == 0
    assert sorted(ran.stdout.splitlines()) == [
        f"[worker:{n}] worker:{n} ['--workers', '7']" for n in range(2)
    ]
    assert "Traceback" not in ran.stderr


def test_the_exit_code_is_the_first_failing_tasks(run_job: RunJob, tmp_path: Path) -> None:
    script = write_script(tmp_path, "sys.exit(9) if task['index'] else time.sleep(60)", "job.py")
    ran = run_job(["--workers", 2, "--log-dir", "logs", script], timeout=30, cwd=tmp_path)
    assert ran.returncode == 9
    assert "the first failure: worker:1 ended with exit code 9" in ran.stderr
    assert "whole logs in logs; exit code 9" in ran.stderr


def test_a_file_of_this_machine_runs_in_one_command(run_job: RunJob, tmp_path: Path) -> None:
    script = write_script(tmp_path, "print(name)", "job.py")
    spec = write_spec({"chief": ["127.0.0.1:24210"], "worker": ["localhost:24211"]})
    ran = run_job(["--cluster", tmp_path / spec, script], timeout=30)
    assert ran.returncode == 0
    assert sorted(ran.stdout.splitlines()) == ["[chief:0] chief:0", "[worker:0] worker:0"]


def test_one_task_runs_in_the_foreground_and_keeps_its_log(run_job: RunJob, tmp_path: Path) -> None:
    script = write_script(tmp_path, r'sys.stdout.write(f"1/2\r{name}\n")', "job.py")
    spec = write_spec({"worker": ["192.0.2.1:24220", "192.0.2.2:24220"]})
    options = ["--cluster", spec, "--task", "worker:1", "--log_dir", "logs"]
    ran = run_job([*options, script], timeout=30, cwd=tmp_path)
    assert ran.returncode == 0
    log = (tmp_path / "logs/worker-1.log").read_bytes()
    assert log == b"1/2\rworker:1\n"
    assert ran.stdout == "1/2\nworker:1\n"  # text mode reads the carriage return as a line end


def test_output_that_the_shell_has_closed_does_not_end_the_job(tmp_path: Path) -> None:
    write_script(tmp_path, 'print("is here")')
    command = f"{PYTHON} -m tfdist run --workers 2 script.py >&- 2>&-"
    ran = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=ENVIRON, timeout=60)
    assert ran.returncode == 0
    logs = [file.read_text() for file in tmp_path.glob("tfdist_logs/*/worker-*.log")]
    assert ["is here" in log for log in logs] == [True, True]


@pytest.mark.parametrize("read", [0, 1])
def test_a_reader_that_leaves_does_not_end_the_job(tmp_path: Path, read: int) -> None:
    script = write_script(tmp_path, 'print("x\\n" * 10_000); open(f"{name}.done", "w")', "job.py")
    command = f"{PYTHON} -m tfdist run --workers 2 {script} | head -n {read}"
    ran = subprocess.run(
        ["sh", "-c", command], env=ENVIRON, capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout.count("\n") == read
    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr
    assert len(list(tmp_path.glob("*.done"))) == 2
