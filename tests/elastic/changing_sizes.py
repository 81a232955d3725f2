"""A job of launchers that come and go, as hosts do: 1, 4, 2 and 3 workers within one run."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.elastic.launchers import Launchers

__all__ = ["SCRIPT", "one_four_two_three"]

SCRIPT = Path(__file__).with_name("resized.py")


def one_four_two_three(folder: Path) -> str:
    """Runs `resized.py` so, to its end; returns what the chief's launcher has shown."""
    places = [f"worker:{k}" for k in range(4)]
    options = ["--workers", "1:4", "--settle", 2, "--grace", 2]
    with Launchers(folder, places, options, [SCRIPT, folder], {"PAUSE": "1"}) as launchers:
        launchers.start("worker:0")
        launchers.wait_for("worker:0", "1 worker: starting", 30)
        launchers.wait_until((folder / "run").exists, "a checkpoint's folder", 60)
        for place in places[1:]:
            launchers.start(place)
        launchers.wait_for("worker:0", "4 workers: starting", 60)
        launchers.wait_for("worker:0", "resuming after epoch", 60)
        _wait_for_checkpoints(launchers)
        launchers.send("worker:1", signal.SIGKILL)
        launchers.send("worker:3", signal.SIGKILL)
        launchers.wait_for("worker:0", "2 workers: starting", 60)
        launchers.wait_for("worker:0", "resuming after epoch", 60, times=2)
        _wait_for_checkpoints(launchers)
        launchers.start("worker:1")
        launchers.wait_for("worker:0", "3 workers: starting", 60)
        for place in places[:3]:
            assert launchers.end(place, 90) == 0, launchers.all_said
        return launchers.said("worker:0")


def _wait_for_checkpoints(launchers: Launchers) -> None:
    """Waits until steps were taken with the workers that there are, and saved."""
    before = set((launchers.folder / "run").glob("*.keras"))
    launchers.wait_until(
        lambda: len(set((launchers.folder / "run").glob("*.keras")) - before) > 1, "saved", 60
    )
