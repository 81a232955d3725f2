"""Real processes, started, watched and ended; their scripts know nothing of TensorFlow."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.launch.support import is_alive, run_script, wait_until, write_script
from tfdist.cluster import Cluster, Task
from tfdist.errors import ClusterError, LaunchError
from tfdist.launch import Job, held_ports, local_cluster, make_plan, run_job

pytestmark = pytest.mark.timeout(60)
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def test_a_job_is_done_when_every_task_has_ended_well(tmp_path: Path) -> None:
    ran = run_script(tmp_path, 'print("hello", *sys.argv[1:])', "--workers", "9")
    assert ran.result.returncode == 0
    assert ran.result.failure is None
    assert ran.returncodes == {"worker:0": 0, "worker:1": 0}
    assert sorted(ran.out.splitlines()) == [f"[worker:{n}] hello --workers 9" for n in range(2)]
    assert "ended well after" in ran.err


def test_each_process_gets_its_plan(tmp_path: Path) -> None:
    body = """
        print(json.dumps({key: os.environ.get(key) for key in sys.argv[1:]}))
    """
    wanted = ["TF_CONFIG", "TFDIST_LAUNCHED", "PYTHONUNBUFFERED", "MINE"]
    environ = {**os.environ, "MINE": "too", "PYTHONUNBUFFERED": "0"}
    ran = run_script(tmp_path, body, *wanted, environ=environ)
    for line in ran.out.splitlines():
        task, told = line.split(maxsplit=1)
        config, *rest = json.loads(told).values()
        assert str(Cluster.from_json(config).task) == task.strip("[]")
        assert rest == ["1", "1", "too"]


def test_the_ports_stay_the_jobs_own_while_a_task_listens_at_its_own(tmp_path: Path) -> None:
    body = """
        import socket
        address = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"][task["index"]]
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("", int(address.split(":")[1])))
        server.listen()
        print("listens")
    """
    assert run_script(tmp_path, body).out.count("listens") == 2


def test_a_log_has_every_byte_of_both_streams(tmp_path: Path) -> None:
    body = r"""
        os.write(1, b"1/2\r2/2 \xff\n")
        os.write(2, b"to stderr")
    """
    ran = run_script(tmp_path, body, counts={"workers": 1})
    assert (tmp_path / "logs/worker-0.log").read_bytes() == b"1/2\r2/2 \xff\nto stderr"
    assert ran.out == "[worker:0] 2/2 \ufffd\n[worker:0] to stderr\n"


def test_much_output_comes_through_whole(tmp_path: Path) -> None:
    ran = run_script(tmp_path, 'print("\\n".join(f"{n:07}" for n in range(50_000)))')
    for n in range(2):
        lines = (tmp_path / f"logs/worker-{n}.log").read_text().splitlines()
        assert lines == [f"{n:07}" for n in range(50_000)]
    assert len(ran.out.splitlines()) == 100_000


@pytest.mark.parametrize(("level", "shown"), [("0", True), ("2", False)])
def test_tensorflows_log_level_holds_from_the_first_line(
    tmp_path: Path, level: str, shown: bool
) -> None:
    line = "I0000 00:00:1795418780.013308   14509 port.cc:153] oneDNN custom operations are on."
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": level}
    ran = run_script(tmp_path, f"print({line!r})", environ=environ)
    assert ("oneDNN" in ran.out) == shown
    assert (tmp_path / "logs/worker-1.log").read_text() == line + "\n"


def test_standard_input_is_empty(tmp_path: Path) -> None:
    assert run_script(tmp_path, "print(repr(sys.stdin.read()))").out.count("''") == 2


def test_without_a_folder_for_logs_a_fresh_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [run_script(tmp_path, "print(1)", log_dir=None).result.log_dir for _ in range(2)]
    assert folders[0] != folders[1]
    for folder in folders:
        assert folder.parent == Path("tfdist_logs")
        assert (folder / "worker-1.log").read_text() == "1\n"


def test_a_folder_for_logs_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match="give another one with --log_dir"):
        run_script(tmp_path, "", log_dir=tmp_path / "file" / "logs")


def test_the_first_failure_is_named_and_its_exit_code_returned(tmp_path: Path) -> None:
    body = """
        if name == "worker:1":
            sys.exit(3)
        time.sleep(60)
    """
    ran = run_script(tmp_path, body)
    assert ran.result.returncode == 3
    assert ran.result.failure is not None
    assert ran.result.failure.task == Task("worker", 1)
    assert ran.returncodes == {"worker:0": -signal.SIGTERM, "worker:1": 3}
    assert ran.seconds < 5
    assert "worker:1 ended with exit code 3; ending worker:0 within 0.5 s" in ran.err
    assert "the first failure: worker:1 ended with exit code 3 after" in ran.err
    assert "then worker:0 was ended by SIGTERM (exit code 143): ended by tfdist" in ran.err
    assert f"whole logs in {tmp_path / 'logs'}; exit code 3" in ran.err


def test_a_failure_shows_the_end_of_its_traceback(tmp_path: Path) -> None:
    body = """
        if name == "worker:1":
            raise ValueError("shapes (3,) and (4,) differ")
        time.sleep(60)
    """
    ran = run_script(tmp_path, body)
    assert "[tfdist]   Traceback (most recent call last):\n" in ran.err
    assert "[tfdist]   ValueError: shapes (3,) and (4,) differ\n" in ran.err
    with pytest.raises(LaunchError, match=r"worker:1 ended with exit code 1:(.|\n)*shapes"):
        ran.result.check()


def test_a_task_that_a_signal_ended_counts_as_shells_count(tmp_path: Path) -> None:
    body = """
        if name == "worker:1":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    """
    ran = run_script(tmp_path, body)
    assert ran.result.returncode == 137
    assert "worker:1 was ended by SIGKILL (exit code 137, not by tfdist" in ran.err


def test_a_task_that_ignores_sigterm_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    body = f"""
        if name == "worker:1":
            time.sleep(0.3)
            sys.exit(3)
        {STUBBORN}
        time.sleep(60)
    """
    ran = run_script(tmp_path, body, grace=0.5)
    assert ran.returncodes == {"worker:0": -signal.SIGKILL, "worker:1": 3}
    assert 0.8 < ran.seconds < 5


@pytest.mark.parametrize("loss", ["sys.exit(75)", 'raise UnavailableError("Socket closed")'])
def test_a_task_that_ended_because_of_another_does_not_hide_it(tmp_path: Path, loss: str) -> None:
    body = f"""
        class UnavailableError(Exception): pass
        if name == "worker:0":
            {loss}
        time.sleep(0.7)
        raise ValueError("the cause, slow to end")
    """
    ran = run_script(tmp_path, body)
    assert ran.result.failure is not None
    assert ran.result.failure.task == Task("worker", 1)
    assert ran.result.returncode == 1
    assert ran.returncodes["worker:1"] == 1
    assert "the cause, slow to end" in ran.err


def test_a_cause_that_never_comes_is_not_waited_for_long(tmp_path: Path) -> None:
    body = """
        sys.exit(75) if name == "worker:0" else time.sleep(60)
    """
    ran = run_script(tmp_path, body)
    assert ran.result.returncode == 75
    assert 2 < ran.seconds < 6


def test_a_task_that_ended_well_does_not_end_the_others(tmp_path: Path) -> None:
    body = """
        time.sleep(0 if name == "worker:0" else 0.7)
        print("done")
    """
    ran = run_script(tmp_path, body, grace=0.1)
    assert ran.result.returncode == 0
    assert ran.out.count("done") == 2


SERVE = f"""
    if name == "chief:0":
        time.sleep(0.3)
        sys.exit(int(sys.argv[1]))
    {STUBBORN}
    time.sleep(60)
"""


def test_servers_that_outlive_a_chief_that_ended_well_are_ended_and_the_job_is_good(
    tmp_path: Path,
) -> None:
    ran = run_script(tmp_path, SERVE, "0", counts={"workers": 1, "ps": 1})
    assert ran.result.returncode == 0
    assert ran.returncodes == {"chief:0": 0, "worker:0": -9, "ps:0": -9}
    assert "the chief has ended well: ending worker:0, ps:0 within 0.5 s" in ran.err
    assert ran.seconds < 5


def test_servers_of_a_chief_that_failed_are_ended_with_its_exit_code(tmp_path: Path) -> None:
    ran = run_script(tmp_path, SERVE, "4", counts={"workers": 1, "ps": 1})
    assert ran.result.returncode == 4


def test_a_server_that_loses_a_chief_that_ended_well_is_no_failure(tmp_path: Path) -> None:
    body = """
        time.sleep(0 if name == "chief:0" else 0.3)
        sys.exit(0 if name == "chief:0" else 75)
    """
    ran = run_script(tmp_path, body, counts={"workers": 1, "ps": 1})
    assert ran.result.returncode == 0


def test_a_server_that_fails_by_itself_is_a_failure_even_then(tmp_path: Path) -> None:
    body = """
        time.sleep(0 if name == "chief:0" else 0.3)
        sys.exit(0 if name == "chief:0" else 5)
    """
    ran = run_script(tmp_path, body, counts={"workers": 1, "ps": 1})
    assert ran.result.returncode == 5


GRANDCHILD = """
    child = subprocess.Popen(
        [sys.executable, "-c", "import signal, time;"
         "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"],
        start_new_session=len(sys.argv) > 2,
    )
    with open(os.path.join(sys.argv[1], f"{child.pid}.pid"), "w"): pass
"""


@pytest.mark.parametrize("escapes", [[], ["escape"]])
def test_what_a_task_has_started_ends_with_it(tmp_path: Path, escapes: list[str]) -> None:
    ran = run_script(tmp_path, GRANDCHILD, str(tmp_path), *escapes)
    assert ran.result.returncode == 0
    assert ran.seconds < 5
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def test_a_job_can_be_ended_from_another_thread(tmp_path: Path) -> None:
    script = write_script(tmp_path, "time.sleep(60)")
    with local_cluster(workers=2) as cluster:
        job = Job(make_plan([str(script)], cluster), log_dir=tmp_path / "logs", grace=0.5)
        timer = threading.Timer(0.5, job.stop)
        timer.start()
        result = job.run()
        timer.join()
    assert result.returncode == 143
    assert result.failure is None
    with pytest.raises(LaunchError, match="was ended"):
        result.check()


def test_a_job_can_run_in_another_thread_than_the_main_one(tmp_path: Path) -> None:
    ran = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: ran.append(run_script(tmp_path, "print(1)")))
    thread.start()
    thread.join(30)
    assert ran[0].result.returncode == 0
    assert signal.getsignal(signal.SIGINT) == before


def test_the_signal_handlers_are_as_before_when_the_job_has_ended(tmp_path: Path) -> None:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(signum) for signum in signals]
    run_script(tmp_path, "")
    assert [signal.getsignal(signum) for signum in signals] == before


def test_an_error_of_the_launcher_itself_leaves_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def fail(job: Job, now: float) -> None:
        started.extend(process.pid for process in job._processes)
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Job, "_decide", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run_script(tmp_path, "time.sleep(60)")
    assert len(started) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in started), 5)


def test_a_task_that_cannot_be_started_ends_those_that_were(tmp_path: Path) -> None:
    (tmp_path / "logs/worker-1.log").mkdir(parents=True)
    with pytest.raises(LaunchError, match=r"worker-1\.log cannot be written: Is a directory"):
        run_script(tmp_path, "time.sleep(60)")


def test_a_task_of_several_machines_is_shown_as_it_is(tmp_path: Path) -> None:
    body = r'sys.stdout.write("1/2\r2/2\n")'
    ran = run_script(tmp_path, body, counts={"workers": 2}, tasks=[Task("worker", 1)], prefix=False)
    assert ran.out == "1/2\r2/2\n"
    assert ran.returncodes == {"worker:1": 0}
    assert (tmp_path / "logs/worker-1.log").read_bytes() == ran.out.encode()


def test_several_tasks_need_their_names(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="2 tasks without a prefix"):
        run_script(tmp_path, "", prefix=False)


def test_a_grace_time_is_not_negative(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="grace of -1 s"):
        run_script(tmp_path, "", grace=-1.0)


def test_a_port_in_use_is_named_with_its_task() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        cluster = Cluster({"worker": (f"127.0.0.1:{port}",)})
        with (
            pytest.raises(ClusterError, match=f"port {port} of worker:0"),
            held_ports(cluster, cluster.tasks),
        ):
            pass


def test_held_ports_are_given_to_nobody_who_asks_for_any() -> None:
    with local_cluster(workers=1) as free:
        port = int(free.jobs["worker"][0].rpartition(":")[2])
    cluster = Cluster({"worker": (f"127.0.0.1:{port}",)})
    with (
        held_ports(cluster, (*cluster.tasks, Task("evaluator"))),
        socket.socket() as probe,
        pytest.raises(OSError, match="in use"),
    ):
        probe.bind(("127.0.0.1", port))


def test_a_module_runs_as_python_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "package/module.py").write_text("import sys; print(__name__, sys.argv[1:])")
    monkeypatch.chdir(tmp_path)
    with local_cluster(workers=1) as cluster:
        result = run_job(["-m", "package.module", "-m", "x"], cluster, log_dir="logs")
    assert result.tasks[0].log.read_text() == "__main__ ['-m', 'x']\n"


def test_results_tell_when_a_task_ran(tmp_path: Path) -> None:
    before = time.time()
    ran = run_script(tmp_path, "time.sleep(0.2)", counts={"workers": 1})
    task = ran.result.tasks[0]
    assert before <= task.started < task.ended <= time.time()
    assert 0.2 <= task.seconds < 5
