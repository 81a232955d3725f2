"""Where a task was at its deadline, read from the stacks that it has left."""

from __future__ import annotations

import json
from pathlib import Path

from tfdist.cluster import Task
from tfdist.functions.deadline import position, positions

STACKS = f"""Timeout (0:00:02)!
Thread 0x1 (most recent call first):
  File "/srv/other.py", line 1 in elsewhere

Thread 0x2 (most recent call first):
  File "{json.__file__}", line 346 in loads
  File "<cell In[3]>", line 4 in read
  File "/srv/train.py", line 9 in main
"""


def test_the_innermost_line_of_the_users_own_is_told() -> None:
    assert position(STACKS) == "in read (<cell In[3]>, line 4)"
    assert position(STACKS.partition('  File "<cell')[0]) == "in loads (__init__.py, line 346)"
    assert position("") == ""


def test_each_task_that_has_told_is_named(tmp_path: Path) -> None:
    tasks = [Task("worker", 0), Task("worker", 1)]
    assert positions(tmp_path, tasks) == ""
    (tmp_path / "worker-1.deadline.txt").write_text(STACKS)
    assert positions(tmp_path, tasks) == ": worker:1 in read (<cell In[3]>, line 4)"
