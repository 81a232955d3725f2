"""Batch scripts are what they were, and a job of Slurm is followed to its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import PYTHON
from tests.launch.support import compare_with_golden
from tfdist import cli
from tfdist.errors import ClusterError, LaunchError
from tfdist.submit.slurm_script import SlurmScript, seconds_of


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    command = ["submit", "slurm", "--dry-run", "--python", "python", *arguments]
    assert cli.main(command) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "golden"),
    [
        (["--nodes", "2", "--time", "1:00:00", "train.py", "--epochs", "5"], "two_nodes.sh"),
        (
            [
                *("--nodes", "3", "--tasks_per_node", "2", "--ps", "2", "--evaluator"),
                *("--sbatch=--partition=long", "--sbatch=--exclusive", "--signal_before", "300"),
                *("--name", "movies", "--output", "logs/%j", "--no_requeue"),
                *("run", "--threads", "4", "-m", "package.module", "a word"),
            ],
            "servers.sh",
        ),
    ],
)
def test_scripts_are_as_they_were(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], golden: str
) -> None:
    text = rendered(capsys, *arguments)
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    compare_with_golden(text, golden, Path(__file__).with_name("golden"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "submit to nothing; the schedulers are slurm and kubernetes"),
        ("slrum train.py", "submit to 'slrum'"),
        ("slurm", "no script; give script.py"),
        ("slurm nowhere.py", "no script 'nowhere.py' here"),
        ("slurm --nods 2 train.py", "unknown option '--nods'; did you mean '--nodes'?"),
        ("slurm --nodes 0 train.py", "argument --nodes: 0; give 1 or more"),
        ("slurm --time soon train.py", "--time 'soon'; give minutes, H:M:S, or D-H:M:S"),
        ("slurm --sbatch partition=long train.py", "--sbatch 'partition=long'; give --name=value"),
        ("slurm --nodes 2 --ps 1 train.py", "2 x 1 tasks, of which 2 are no workers"),
        ("slurm --time 3 train.py", "--time 3 is too short for --signal_before 120"),
        ("slurm --name=a\tb train.py", "'a\\tb' in an #SBATCH line; write it without blanks"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    assert cli.main(["submit", *arguments.split(" ")] if arguments else ["submit"]) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_a_grace_of_the_line_or_of_its_file_counts(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--nodes", "2", "run", "--config"]
    Path("job.toml").write_text('grace = 60\nscript = "train.py"\n')
    assert "-m tfdist run --config job.toml &\n" in rendered(capsys, *words, "job.toml")
    Path("other.toml").write_text('threads = 4\nscript = "train.py"\n')
    text = rendered(capsys, *words, "other.toml")
    assert "-m tfdist run --grace 110 --config other.toml &\n" in text
    text = rendered(capsys, *words, "other.toml", "--grace=7")
    assert "-m tfdist run --config other.toml --grace=7 &\n" in text
    text = rendered(capsys, "--nodes", "2", "train.py", "--grace", "7")  # the script's own
    assert "-m tfdist run --grace 110 train.py --grace 7 &\n" in text
    assert cli.main(["submit", "slurm", "--dry-run", *words, "nowhere.toml", "train.py"]) == 64
    assert "--config nowhere.toml: it cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 300), ("5:30", 330), ("1:00:00", 3600), ("1-2", 93600), ("1-2:30", 95400)],
)
def test_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


CODES = {  # of two tasks, and why they end: that of the script, and if it goes on
    (0, 0, "late"): (0, False),
    (75, 75, "late"): (75, True),
    (0, 75, "late"): (75, True),
    (143, 143, "late"): (143, False),  # it saves nothing, and would begin anew for ever
    (75, 75, "lost"): (75, False),
    (75, 75, "cancelled"): (75, False),
    (75, 75, "preempted"): (75, True),
    (143, 143, "preempted"): (143, True),
    (143, 143, "preempted late"): (143, True),  # Slurm may send --signal then, too
    (1, 75, "preempted"): (1, False),
    (1, 75, "late"): (1, False),
    (64, 64, "lost"): (64, False),
    (137, 75, "lost"): (137, False),
}
TOLD = {  # of the job, as `scontrol show job --oneliner` has it
    "late": "JobState=RUNNING Reason=None PreemptTime=None",
    "lost": "JobState=RUNNING Reason=None PreemptTime=None",
    "cancelled": "JobState=CANCELLED Reason=None PreemptTime=2026-11-27T13:31:00",
    "preempted": "JobState=RUNNING Reason=None PreemptTime=2026-11-27T13:31:00",
}
TOLD["preempted late"] = TOLD["preempted"]


@pytest.mark.parametrize("codes", CODES)
def test_a_job_is_requeued_where_its_time_was_up_or_it_is_preempted(
    codes: tuple[int, int, str], tmp_path: Path
) -> None:
    *ends, why = codes
    # As srun does: all tasks at once, which are told of the signal, and the highest code of them.
    starts = "".join(f'"$@" {code} & all="$all $!"\n' for code in ends)
    highest = "for one in $all; do\nwait $one; code=$?\n[ $code -gt $most ] && most=$code\ndone\n"
    # Later than the script has noted the step's number, as Slurm's signal does.
    told = "trap 'told=1' USR1\n[ -z \"$LATE\" ] || { sleep 0.3; kill -USR1 $PPID; }\n"
    until = 'while [ -n "$LATE$told" ] && [ "$LATE" != "$told" ]; do sleep 0.05; done\n'
    srun = f"#!/bin/sh\nshift; most=0\n{told}{until}{starts}{highest}exit $most\n"
    told = f'[ "$1" = show ] && echo "{TOLD[why]}" && exit\n'
    for name, text in (("srun", srun), ("scontrol", f'#!/bin/sh\n{told}echo "$@" >> asked\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "script").write_text(SlurmScript(["sh", "-c", 'exit "$1"', "task"]).text())
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    environ["LATE"] = "1" if "late" in why else ""
    ran = subprocess.run(["bash", "script"], env=environ, cwd=tmp_path, timeout=20)
    code, again = CODES[codes]
    assert ran.returncode == code
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 7\n" if again else "")


def test_only_roles_that_there_are() -> None:
    with pytest.raises(ClusterError, match="worker among the roles"):
        SlurmScript(["x"], roles=(("worker", 1),))


def test_without_slurm_the_advice_can_be_followed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["submit", "slurm", "train.py"]) == LaunchError.exit_code
    assert "there is no sbatch here: submit from a host of the Slurm" in capsys.readouterr().err


SBATCH = """#!/bin/sh
cat > script.sh
echo "7;cluster"
"""
# It waits, runs, is requeued, runs again, and ends; each look is one step further.
SCONTROL = """#!/bin/sh
echo look >> looks
n=$(wc -l < looks)
case $n in
1|2) state=PENDING code=0:0 ;;
3) state=RUNNING code=0:0; echo one >> 'o ut' ;;
4) state=PREEMPTED code=0:0; echo busy >&2; [ -e asked ] || { touch asked; exit 1; } ;;
5) state=RUNNING code=0:0; echo two >> 'o ut' ;;
*) state=$END code=$CODE; echo three >> 'o ut' ;;
esac
echo "JobId=7 JobState=$state Restarts=1 ExitCode=$code StdOut=$PWD/o ut"
"""


@pytest.mark.parametrize(
    ("end", "code", "expected"),
    [
        ("COMPLETED", "0:0", 0),
        ("FAILED", "3:0", 3),
        ("CANCELLED", "0:15", 143),
        ("TIMEOUT", "0:0", 1),
    ],
)
def test_a_job_is_followed_to_its_end(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    end: str,
    code: str,
    expected: int,
) -> None:
    for name, text in (("sbatch", SBATCH), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("END", end)
    monkeypatch.setenv("CODE", code)
    monkeypatch.setattr("tfdist.submit.slurm_queue._LOOK_SECONDS", 0.01)
    assert cli.main(["submit", "slurm", "--nodes", "2", "train.py"]) == expected
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "[tfdist] job 7 is in the queue"
    assert told[1:4] == ["one", "two", "three"]
    assert told[4].startswith(f"[tfdist] job 7 has ended: {end}, exit code ")
    assert told[4].endswith(", started again 1 times")
    assert f"{PYTHON} -m tfdist run --grace 110 train.py" in (tmp_path / "script.sh").read_text()


def test_what_slurm_refuses_is_told_in_its_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusal = "#!/bin/sh\necho 'sbatch: error: no such partition' >&2\nexit 1\n"
    (tmp_path / "sbatch").write_text(refusal)
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert cli.main(["submit", "slurm", "train.py"]) == LaunchError.exit_code
    assert "sbatch: sbatch: error: no such partition" in capsys.readouterr().err
