"""A signal that a library has caught in native code can be had back."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import faulthandler, os, signal, sys
from tfdist.machine.signals import take_back
faulthandler.register(signal.SIGUSR1, file=open(os.devnull, "w"))  # Python knows nothing of it
if sys.argv[1] == "back":
    take_back(signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.parametrize(("how", "code"), [("caught", 0), ("back", -signal.SIGUSR1)])
def test_it_ends_the_process_again(how: str, code: int) -> None:
    assert subprocess.run([sys.executable, "-c", PROGRAM, how], check=False).returncode == code
