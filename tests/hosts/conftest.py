"""Hosts a and b for the tests of this folder: SSH servers on the loopback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.hosts.ssh_hosts import SshHosts, missing_programs, ssh_hosts
from tests.launch.support import write_script


class StartOnHosts(Protocol):
    """Starts `tfdist run --hosts a,b script.py` with a script of this body."""

    def __call__(
        self, body: str, *options: str, arguments: Sequence[str] = (), hosts: str = "a,b"
    ) -> subprocess.Popen[str]:
        """Returns the launcher, whose standard error is in its output."""


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    if missing := missing_programs():
        pytest.skip(f"not here: {missing}, of OpenSSH")
    with ssh_hosts(tmp_path_factory.mktemp("ssh")) as found:
        yield found


@pytest.fixture
def start(hosts: SshHosts, tmp_path: Path) -> Iterator[StartOnHosts]:
    with contextlib.ExitStack() as stack:

        def begin(
            body: str, *options: str, arguments: Sequence[str] = (), hosts: str = "a,b"
        ) -> subprocess.Popen[str]:
            script = write_script(tmp_path, body)
            return stack.enter_context(
                _launched(tmp_path, ["--hosts", hosts, *options, script.name, *arguments], ssh)
            )

        ssh = hosts.ssh
        yield begin


@contextlib.contextmanager
def _launched(folder: Path, options: Sequence[str], ssh: str) -> Iterator[subprocess.Popen[str]]:
    launcher = subprocess.Popen(
        [sys.executable, "-m", "tfdist", "run", "--grace", "1", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "TFDIST_SSH": ssh},
        start_new_session=True,
    )
    try:
        yield launcher
    finally:
        launcher.kill()
        launcher.communicate(timeout=20)
