"""Who sees what of a job: by option, by terminal, by what is installed."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import pytest

from tests.launch.support import Ran, run_script
from tfdist import cli
from tfdist.cluster import Cluster, Task
from tfdist.cluster.address import Address
from tfdist.errors import ClusterError, LaunchError
from tfdist.launch.live import LiveView, chosen_view
from tfdist.launch.live.job_bar import JobBar
from tfdist.launch.live.metrics_port import MetricsPort
from tfdist.launch.live.plain_lines import PlainLines
from tfdist.launch.live.tensorboard_files import TensorBoardFiles
from tfdist.launch.live.trace_file import TraceFile
from tfdist.run_parser import run_parser

CLUSTER = Cluster({"worker": ("127.0.0.1:1", "127.0.0.1:2")})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)


def options(*arguments: str) -> argparse.Namespace:
    return run_parser().parse_args(run_parser().split(arguments)[0])


def view(
    *arguments: str,
    out: io.StringIO | None = None,
    environ: dict[str, str] | None = None,
    tasks: tuple[Task, ...] = CLUSTER.tasks,
    prefix: bool = True,
) -> list[type]:
    made = chosen_view.live_view(
        options(*arguments),
        CLUSTER,
        tasks,
        out=out or Terminal(),
        environ=environ or {},
        prefix=prefix,
    )
    return [type(one) for one in made._watchers]


def test_a_terminal_gets_a_bar_and_all_else_lines() -> None:
    assert view() == [JobBar]
    assert view(out=io.StringIO()) == [PlainLines]
    assert view(environ={"NO_COLOR": "1"}) == [PlainLines]
    assert view(environ={"CI": "true"}) == [PlainLines]


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("JPY_PARENT_PID", "7")])
def test_what_cannot_be_drawn_on_gets_lines(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert view() == [PlainLines]


def test_a_task_in_the_foreground_has_the_terminal_for_itself() -> None:
    assert view(prefix=False) == []
    assert view("--progress", "plain", prefix=False) == [PlainLines]
    with pytest.raises(ClusterError, match="single task in the foreground"):
        view("--progress", "bar", prefix=False)


def test_what_is_asked_for_is_done() -> None:
    assert view("--progress", "none") == []
    assert view("--progress", "bar", environ={"CI": "1"}) == [JobBar]
    assert view("--progress", "none", "--tensorboard", "x", "--metrics-port", "0") == [
        TensorBoardFiles,
        TraceFile,
        MetricsPort,
    ]


def test_a_bar_where_nothing_can_be_drawn_is_refused() -> None:
    with pytest.raises(ClusterError, match="no terminal that can be drawn on; leave it out"):
        view("--progress", "bar", out=io.StringIO())


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("rich", ("--progress", "bar"), "--progress bar needs rich.*pip install rich"),
        ("tensorboard", ("--tensorboard", "x"), "--tensorboard needs tensorboard.*pip install"),
        ("prometheus_client", ("--metrics_port", "0"), "needs prometheus-client.*pip install"),
    ],
)
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr(chosen_view, "_is_there", lambda name: name != module)
    with pytest.raises(ClusterError, match=words):
        view(*arguments)


def test_without_rich_a_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_view, "_is_there", lambda name: False)
    assert view() == [PlainLines]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9100", Address("127.0.0.1", 9100)),
        ("0", Address("127.0.0.1", 0)),
        ("0.0.0.0:9100", Address("0.0.0.0", 9100)),
        ("[::1]:0", Address("::1", 0)),
    ],
)
def test_metrics_are_at_the_loopback_unless_somebody_says(text: str, address: Address) -> None:
    assert options("--metrics_port", text).metrics_port == address


@pytest.mark.parametrize("text", ["", "x", "-1", "65536", ":80", "host:"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match=r"is no port; give 0 to 65535, or host:port"):
        options(f"--metrics_port={text}")


def test_launchers_of_one_job_write_different_timelines(tmp_path: Path) -> None:
    for number, task in enumerate(CLUSTER.tasks):
        made = chosen_view.live_view(
            options("--progress", "none", "--tensorboard", str(tmp_path)), CLUSTER, (task,)
        )
        with made.opened(lambda line: None):
            pass
        assert (tmp_path / f"timeline.worker-{number}.trace.json").exists()


# ---------------------------------------------------------------- what cannot be opened


def run_watched(folder: Path, live: LiveView) -> Ran:
    return run_script(folder, "print('runs')", live=live)


def test_a_port_that_is_taken_is_refused_before_a_task_starts(tmp_path: Path) -> None:
    first = MetricsPort(Address("127.0.0.1", 0))
    lines: list[str] = []
    first.open(lines.append)
    try:
        taken = Address("127.0.0.1", first._server.server_port)
        with pytest.raises(LaunchError, match=rf"no metrics at {taken} .*give another port"):
            run_watched(tmp_path, LiveView([MetricsPort(taken)]))
    finally:
        first.close(LiveView().progress.view(0.0), 0.0)
    assert not list(tmp_path.glob("logs/*.log"))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for watcher in (TensorBoardFiles(file / "board"), TraceFile(file / "board")):
        with pytest.raises(LaunchError, match=r"give another (one|folder) with --tensorboard"):
            run_watched(tmp_path, LiveView([watcher]))


def test_a_task_that_knows_nothing_of_tfdist_tells_nothing(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        """
        import subprocess
        ask = "import os; print(sorted(n for n in os.environ if 'PROGRESS' in n))"
        print(sorted(n for n in os.environ if "PROGRESS" in n))
        """,
        live=LiveView([PlainLines()]),
    )
    assert ran.result.returncode == 0
    assert ran.out.count("['TFDIST_PROGRESS_PIPE']") == 2
    assert "epoch" not in ran.err


def test_where_nobody_watches_no_task_tells(tmp_path: Path, monkeypatch: Any) -> None:
    """Also not the tasks of a launcher that is a task itself."""
    monkeypatch.setenv("TFDIST_PROGRESS", "records")
    monkeypatch.setenv("TFDIST_PROGRESS_PIPE", "7:1:records")
    ran = run_script(tmp_path, 'print(sorted(n for n in os.environ if "PROGRESS" in n))')
    assert ran.out.count("[]") == 2


def test_help_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help_all"])
    text = capsys.readouterr().out
    assert all(name in text for name in ("--progress", "--tensorboard", "--metrics_port"))
