"""What a process may use: cores by affinity and by the quota of a control group, and memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tfdist.machine import capacities
from tfdist.machine.capacities import available_cores
from tfdist.machine.open_files import allow_open_files, open_files_limit


@pytest.fixture(autouse=True)
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The process' own control group, in another, as the kernel shows them; without limits."""
    own = tmp_path / "job" / "task"
    own.mkdir(parents=True)
    (own.parent / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr(capacities, "_CGROUP", tmp_path)
    read = capacities._lines

    def lines(path: Path) -> list[str]:
        return ["0::/job/task"] if path == Path("/proc/self/cgroup") else read(path)

    monkeypatch.setattr(capacities, "_lines", lines)
    return own


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_cores_that_this_process_may_not_use_are_not_counted() -> None:
    assert available_cores() == len(os.sched_getaffinity(0))


def test_cores_are_those_of_the_machine_where_the_system_tells_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 3), ("50000 100000", 1), ("", 8)],
)
@pytest.mark.parametrize("above", [False, True])
def test_a_quota_of_cores_counts(
    monkeypatch: pytest.MonkeyPatch, group: Path, quota: str, cores: int, above: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    ((group.parent if above else group) / "cpu.max").write_text(quota)
    assert available_cores() == cores


def test_what_a_control_group_leaves_of_the_memory_counts(group: Path) -> None:
    (group / "memory.max").write_text("1000000")
    (group / "memory.current").write_text("800000")
    assert capacities.memory() == 200000
    (group / "memory.stat").write_text("anon 1\ninactive_file 300000\n")
    assert capacities.memory() == 500000  # what is only kept in case it is read again


def test_a_machine_without_control_groups_tells_of_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacities, "_lines", lambda path: [])
    assert capacities.memory() in (-1, capacities.limits()[1])
    assert available_cores() >= 1


def test_who_shares_cores_says_the_same_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    own = capacities.cores_of()
    assert own == capacities.cores_of()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {98, 99}, raising=False)
    assert capacities.cores_of() != own


def test_the_limits_of_a_process_are_told() -> None:
    files, space, size = capacities.limits()
    assert files == -1 or files > 0
    assert space == -1 or space > 0
    assert size == -1 or size > 0


def test_a_system_without_such_limits_tells_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # as where it cannot be imported
    assert capacities.limits() == (-1, -1, -1)
    assert open_files_limit() == -1
    assert allow_open_files(10**9) == ""


def test_memory_is_shared_by_those_whom_the_same_control_group_limits_or_none(group: Path) -> None:
    unlimited = capacities.memory_of()
    for folder, left in ((group, 2000), (group.parent, 1000)):
        (folder / "memory.max").write_text(str(10000 + left))
        (folder / "memory.current").write_text("10000")
    assert capacities.memory_of() == unlimited.replace(
        " all", f" group {group.parent.stat().st_ino}"
    )
    (group / "memory.current").write_text("11500")
    assert capacities.memory_of().endswith(f" group {group.stat().st_ino}")
