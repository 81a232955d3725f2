"""`tfdist.run` in scripts and plain IPython: each a process of its own, and what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tfdist
from tests.launch.support import is_alive, wait_until

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _logs_go_to_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_script(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(body))
    return subprocess.run(
        [sys.executable, script.name], capture_output=True, text=True, timeout=60, cwd=folder
    )


def test_plain_ipython_runs_a_cell_in_its_terminal(tmp_path: Path) -> None:
    lines = (
        "import tfdist\n"
        "get_ipython().run_line_magic('load_ext', 'tfdist')\n"
        "x = 20\n"
        "get_ipython().run_cell_magic('tfdist', '--workers 1 -i x -o y', 'y = x + 1; print(y)')\n"
        "print('brought', y)"
    )
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--quick", "-c", lines],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )
    assert done.stdout == "[worker:0] 21\nbrought 21\n", done.stderr


def test_a_script_calls_its_own_functions_and_knows_its_own_classes_again(tmp_path: Path) -> None:
    done = run_script(
        """
        import dataclasses, sys
        import tfdist

        @dataclasses.dataclass
        class Score:
            value: float

        class Stopped(Exception):
            pass

        def train(rate):
            if rate > 1:
                raise Stopped(rate)
            return Score(rate)

        print([tfdist.run(train, rate, workers=2, show="none") for rate in (0.1, 0.2)])
        try:
            tfdist.run(train, 2, show="none")
        except Stopped as error:
            print("caught", error)
        print("tensorflow" in sys.modules, "numpy" in sys.modules)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("[Score(value=0.1), Score(value=0.2)]\ncaught 2\nFalse False\n")


def test_off_a_terminal_each_line_has_its_task_in_front(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tfdist.run(lambda: print("a line"), workers=2)
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == ["[worker:0] a line", "[worker:1] a line"]
    assert "all tasks ended well" in err
    assert "--" not in err  # the command's options mean nothing here


def test_ctrl_c_ends_the_job_and_is_raised(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time, tfdist
            def sleep():
                print("pid", os.getpid(), flush=True)
                time.sleep(60)
            try:
                tfdist.run(sleep)
            except KeyboardInterrupt:
                print("interrupted")
            """
        )
    )
    job = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, cwd=tmp_path)
    assert job.stdout is not None
    pids = [int(job.stdout.readline().split()[2]) for _ in range(2)]
    job.send_signal(signal.SIGINT)
    assert b"interrupted" in job.communicate(timeout=30)[0]
    assert not any(is_alive(pid) for pid in pids)


def test_no_task_outlives_a_caller_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time, tfdist\n"
        "def sleep():\n"
        "    print('pid', os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "tfdist.run(sleep)\n"
    )
    job = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, cwd=tmp_path)
    assert job.stdout is not None
    pids = [int(job.stdout.readline().split()[2]) for _ in range(2)]
    job.kill()
    job.communicate(timeout=10)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_without_cloudpickle_it_says_what_to_install(tmp_path: Path) -> None:
    done = run_script(
        """
        import sys
        sys.modules["cloudpickle"] = None
        import tfdist
        print(tfdist.strategy)
        tfdist.run(print)
        """,
        tmp_path,
    )
    assert done.stdout.startswith("<function strategy")
    assert done.stderr.strip().splitlines()[-1] == (
        "tfdist.errors.LaunchError: tfdist.run needs cloudpickle, which packs functions for other "
        "processes: pip install cloudpickle (or 'tfdist[functions]')"
    )
