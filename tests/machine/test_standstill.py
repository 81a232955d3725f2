"""A process that was stopped knows it, and one of which a thread waits for long has not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

PAUSE = 1.5
PROGRAM = f"""
import time
from tfdist.machine import standstill
standstill._PAUSE_SECONDS, standstill._LOOK_SECONDS = {PAUSE}, 0.1
one, other = standstill.Standstill(), standstill.Standstill()
time.sleep(2 * {PAUSE})  # as one that waits for a name server
print(one.is_over(), standstill.lately(60), flush=True)
input()
print(one.is_over(), one.is_over(), other.is_over(), standstill.lately(60) > {PAUSE})
"""


def test_who_was_stopped_is_told_so_once_and_who_asks_late_is_not() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, text=True
    ) as program:
        assert program.stdout is not None
        late = program.stdout.readline()
        os.kill(program.pid, signal.SIGSTOP)
        time.sleep(2 * PAUSE)
        os.kill(program.pid, signal.SIGCONT)
        stopped, _ = program.communicate("\n", timeout=20)
    assert late == "False 0.0\n"
    assert stopped == "True False True True\n"
