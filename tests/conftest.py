"""What all tests share: jobs of real processes with a deadline, and a guard against orphans.

Every process that a test starts inherits `TFDIST_TEST_SESSION`, and pytest's own
`PYTEST_CURRENT_TEST`. By the first the guard finds those that are left, even where they have cut
themselves off from this process; by the second it names the test that started them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tfdist import log, process

ROOT = Path(__file__).parent.parent
START = ROOT / "tests" / "start"
LONGEST = ROOT / "tests" / "longest.txt"
NEAR_TWINS = ROOT / "tests" / "near_twins.txt"
LEFT_TO_CI = ROOT / "tests" / "left_to_ci.txt"
SESSION = "TFDIST_TEST_SESSION"
JOB = "TFDIST_TEST_JOB"
PROC = Path("/proc")
PYTHON = shlex.quote(sys.executable)
"""As a command line names it, in a folder with spaces, too."""

log.set_task("")  # else the first test to log something finds nothing in its caplog
os.environ[SESSION] = f"{os.getpid()}-{secrets.token_hex(8)}"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
for _variable in (
    "TF_CONFIG",
    "TFDIST_CLUSTER",
    "TFDIST_TASK",
    "TFDIST_SECRET",
    "TFDIST_SECRET_FILE",
    "TFDIST_ENVIRONMENT",
    "TFDIST_HOSTS",
    "TFDIST_RANK",
    "JOB_COMPLETION_INDEX",
    "KUBERNETES_SERVICE_HOST",
    "OMPI_COMM_WORLD_SIZE",
    "PET_NNODES",
    "PMIX_RANK",
    "SKYPILOT_NUM_NODES",
    "SLURM_NTASKS",
    "SLURM_STEP_NUM_TASKS",
):
    os.environ.pop(_variable, None)  # of the job that these tests are perhaps run in
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile all of tfdist
# Processes that tests start find tfdist, and start like `tests/start/sitecustomize.py` says.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(START), *filter(None, [os.environ.get("PYTHONPATH")])]
)


gc.set_threshold(50_000, 20, 50)  # looking for garbage took an eighth of the time
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would all jobs that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so does `nohup`


@pytest.hookimpl(optionalhook=True)  # scripts/mutate has no xdist
def pytest_xdist_auto_num_workers() -> int:
    """Three sessions on two cores: jobs also wait, for one another and for seconds to pass."""
    cores = os.cpu_count() or 1
    return cores + cores // 2


def pytest_configure(config: pytest.Config) -> None:
    """Who names files or words means all tests of that name; sessions inherit the variable."""
    named = config.args_source is config.ArgsSource.ARGS or config.option.keyword
    if named and not hasattr(config, "workerinput"):
        os.environ["TFDIST_TEST_CI"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with `longest.txt`, and leaves tests to `scripts/test --ci` and `--thorough`.

    A file is one session's: a long one that began last would have the others wait for its end.
    Files of jobs and of one process take turns in the list, so that not all jobs run at once.
    """
    ranks = {line: n for n, line in enumerate(LONGEST.read_text().split())}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))
    if os.environ.get("TFDIST_TEST_THOROUGH"):
        return
    twins = left_out(NEAR_TWINS)
    to_ci = {} if os.environ.get("TFDIST_TEST_CI") else left_out(LEFT_TO_CI)
    for item in items:
        if item.get_closest_marker("thorough") or _is_in(twins, item):
            item.add_marker(pytest.mark.skip(reason="thorough"))
        elif _is_in(to_ci, item):
            item.add_marker(pytest.mark.skip(reason="left to CI"))


def left_out(listed: Path) -> dict[str, list[str]]:
    """The tests of each file that a list names, and its `@fixtures`; "" is all of the file."""
    tests: dict[str, list[str]] = {}
    for line in listed.read_text().splitlines():
        if not line.startswith("#"):
            file, _, name = line.partition(" ")
            tests.setdefault(file, []).append(name)
    return tests


def _is_in(listed: Mapping[str, Sequence[str]], item: pytest.Item) -> bool:
    file, _, name = item.nodeid.partition("::")
    asks_for = getattr(item, "fixturenames", ())
    return any(
        one in ("", name) or name.startswith(f"{one}[") or one.removeprefix("@") in asks_for
        for one in listed.get(file, ())
    )


def pytest_collection_finish() -> None:
    """Never looks for garbage among what was there before the first test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _each_test_asks_anew_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a strategy of an earlier test has told of this process is forgotten."""
    monkeypatch.setattr(process, "_joined", None)


class RunJob(Protocol):
    """`run_job(["--workers", "2", "train.py"])` is `tfdist run --workers 2 train.py`."""

    def __call__(
        self,
        args: Sequence[object],
        timeout: float = 120,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a job to its end.

        Args:
            args: What follows `tfdist run`.
            timeout: Seconds after which the job is killed and the test fails.
            env: Variables beside those of this process.
            cwd: Where the job runs; a fresh folder by default.

        Returns:
            The launcher's exit code, and what it wrote, as text.
        """


@pytest.fixture(scope="session")
def run_job(tmp_path_factory: pytest.TempPathFactory) -> RunJob:
    def run(
        args: Sequence[object],
        timeout: float = 120,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        mark = secrets.token_hex(8)
        command = [sys.executable, "-m", "tfdist", "run", *map(str, args)]
        job = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, JOB: mark, **(env or {})},
            cwd=cwd or tmp_path_factory.mktemp("job"),
            start_new_session=True,
        )
        try:
            out, err = job.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            out, err = _kill_job(job, mark)
            late = f"{command} was not done after {timeout:g} s; it said:\n{out}\n{err}"
            raise AssertionError(late) from None
        except BaseException:  # pytest-timeout's, or Ctrl-C
            _kill_job(job, mark)
            raise
        return subprocess.CompletedProcess(command, job.returncode, out, err)

    return run


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    """Fails the session if a process that a test started outlives it by five seconds."""
    yield
    deadline = time.monotonic() + 5
    while (left := _left_behind()) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        told = [_describe(pid) for pid in sorted(left)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pytest.fail("processes left running by the tests:\n" + "\n".join(told), pytrace=False)


def _kill_job(job: subprocess.Popen[str], mark: str) -> tuple[str, str]:
    """Kills the launcher and all that it has started; returns what they wrote until then."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    for pid in _marked(JOB, mark):  # in groups of their own
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return job.communicate(timeout=10)


def _left_behind() -> set[int]:
    """The processes of this session, apart from this one and Python's own helpers."""
    pids = _marked(SESSION, os.environ[SESSION]) | _descendants(os.getpid())
    return {pid for pid in pids if "multiprocessing.resource_tracker" not in _command(pid)}


def _marked(variable: str, value: str) -> set[int]:
    """The other processes that were started with this variable in their environment."""
    wanted = f"{variable}={value}".encode()
    return {pid for pid in _processes() if wanted in _read(pid, "environ").split(b"\0")}


def _descendants(pid: int) -> set[int]:
    """The living children of a process, their children, and so on."""
    found: set[int] = set()
    parents = {child: _parent(child) for child in _processes()}
    generation = {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        found |= generation
    return found


def _processes() -> list[int]:
    """All processes of the machine but this one; none where there is no /proc (macOS)."""
    if not PROC.is_dir():
        return []
    return [int(p.name) for p in PROC.iterdir() if p.name.isdigit() and int(p.name) != os.getpid()]


def _parent(pid: int) -> int:
    """A process's parent, or 0 if the process has ended."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()  # after the name, which may hold blanks
    ended = not fields or fields[0] in (b"Z", b"X")
    return 0 if ended else int(fields[1])


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _describe(pid: int) -> str:
    variables = dict(
        item.partition(b"=")[::2] for item in _read(pid, "environ").split(b"\0") if item
    )
    test = variables.get(b"PYTEST_CURRENT_TEST", b"no test").decode()
    return f"  pid {pid}, started in {test}: {_command(pid)}"


def _read(pid: int, name: str) -> bytes:
    """A file of /proc, empty if the process has ended or belongs to somebody else."""
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
