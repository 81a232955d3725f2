"""The picture of a schedule: stages as rows, time as columns, the bubble's share in the title.

Pure: imports no TensorFlow, and matplotlib only to write a picture.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tfdist.errors import StrategyError
from tfdist.schedules import schedule as schedules
from tfdist.schedules.schedule import Slot
from tfdist.schedules.timings import Timing, Timings

__all__ = ["draw"]

_COLOURS = {"forward": "#56B4E9", "backward": "#E69F00", "weights": "#009E73"}  # Okabe and Ito's
_ALPHABETS = {"forward": "0123456789", "backward": "abcdefghij", "weights": "ABCDEFGHIJ"}
_WIDTH = 96


def draw(
    what: str | Sequence[Slot] | Timings,
    stages: int | None = None,
    microbatches: int | None = None,
    *,
    tasks: int | None = None,
    path: str | os.PathLike[str] | None = None,
    axes: Any = None,
    title: str | None = None,
) -> str:
    """Draws a planned schedule, or the measured timings of a step.

    Args:
        what: a schedule's name, its slots, or what `tfdist.pipeline.measure` returned.
        stages: with a name: K.
        microbatches: with a name: M.
        tasks: with a name: how many share the stages; by default each has one, or two under
            "interleaved" and "zb_v".
        path: where to write a picture (PNG, SVG or PDF, by its ending).
        axes: matplotlib axes to draw on instead.
        title: what stands before the bubble's share.

    Returns:
        The picture as text, for a terminal.

    Raises:
        StrategyError: a name without its K and M, or stages that do not divide into the tasks.

    Example:
        >>> print(tfdist.pipeline.draw("1f1b", 3, 4))
    """
    placement: Sequence[int] = ()
    if isinstance(what, str):
        if stages is None or microbatches is None:
            raise StrategyError(
                f"draw({what!r}) without its size: draw({what!r}, stages, microbatches)"
            )
        title = title or what
        if tasks is None:
            tasks = max(1, stages // schedules.stages_a_task(what))
        name, what = what, schedules.schedule(what, stages, microbatches, tasks)
        if tasks < stages:
            placement = schedules.placement(name, stages, tasks)
    measured = isinstance(what, Timings)
    timings = what if isinstance(what, Timings) else Timings.planned(what, placement)
    heading = _heading(timings, measured, title)
    if path is not None or axes is not None:
        _picture(timings, measured, heading, path, axes)
    if isinstance(what, Timings):
        return f"{heading}\n{_text(timings)}"
    return f"{heading}\n{schedules.text(what, placement or None)}"


def _heading(timings: Timings, measured: bool, title: str | None) -> str:
    length = f", {1e3 * timings.seconds:.1f} ms" if measured else ""
    return f"{title or 'pipeline'}{length}, bubble {100 * timings.bubble:.0f} %"


def _text(timings: Timings) -> str:
    """Rows of letters, each a part of the time: digits in forwards, letters in backwards.

    Gradients of weights apart from their backwards are capitals.
    """
    start = min(t.begin for t in timings.slots)
    scale = _WIDTH / (timings.seconds or 1.0)
    rows = []
    for (replica, stage), own in sorted(_by_row(timings).items()):
        cells = ["."] * _WIDTH
        for timing in own:
            low = int((timing.begin - start) * scale)
            high = max(low + 1, int((timing.end - start) * scale))
            letter = _letter(timing)
            for i in range(low, min(high, _WIDTH)):
                cells[i] = letter
        name = timings.tasks[stage] if timings.shared else f"stage {stage}"
        name = f"replica {replica} {name}" if _replicas(timings) else name
        rows.append(f"{name} | {''.join(cells)}")
    return "\n".join(rows)


def _letter(timing: Timing) -> str:
    return _ALPHABETS[timing.slot.direction][timing.slot.microbatch % 10]


def _by_row(timings: Timings) -> dict[tuple[int, int], list[Timing]]:
    rows: dict[tuple[int, int], list[Timing]] = {}
    row = timings.rows
    for timing in timings.slots:
        rows.setdefault((timing.replica, row[timing.slot.stage]), []).append(timing)
    return rows


def _shades(timings: Timings) -> list[float]:
    """How dark each stage is: the later ones of a task are lighter."""
    rows = timings.rows
    return [
        1 - 0.5 * rows[:stage].count(row) / max(1, rows.count(row) - 1)
        for stage, row in enumerate(rows)
    ]


def _replicas(timings: Timings) -> bool:
    return any(timing.replica for timing in timings.slots)


def _picture(timings: Timings, measured: bool, heading: str, path: Any, axes: Any) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows, shades = sorted(_by_row(timings).items()), _shades(timings)
    figure = None
    if axes is None:
        figure = Figure(figsize=(9, 0.6 * len(rows) + 1.2), layout="constrained")
        FigureCanvasAgg(figure)  # needs no screen
        axes = figure.subplots()
    start = min(t.begin for t in timings.slots)
    scale = 1e3 if measured else 1.0
    for row, (_, own) in enumerate(rows):
        for timing in own:
            width = scale * (timing.end - timing.begin)
            left = scale * (timing.begin - start)
            colour = _COLOURS[timing.slot.direction]
            alpha = shades[timing.slot.stage]
            axes.barh(
                row, width, 0.85, left, color=colour, alpha=alpha, edgecolor="white", linewidth=0.8
            )
            if width > 0.02 * scale * timings.seconds:
                label = str(timing.slot.microbatch)
                axes.text(left + width / 2, row, label, ha="center", va="center", fontsize=8)
    drawn = {timing.slot.direction for timing in timings.slots}
    replicas = _replicas(timings)
    what = [timings.tasks[s] if timings.shared else f"stage {s}" for (_, s), _ in rows]
    names = [
        f"replica {r}, {name}" if replicas else name
        for ((r, _), _), name in zip(rows, what, strict=True)
    ]
    if timings.tasks and not replicas and not timings.shared:
        names = [
            f"{name} ({timings.tasks[s]})" for name, ((_, s), _) in zip(names, rows, strict=True)
        ]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, scale * timings.seconds)
    axes.set_xlabel("milliseconds" if measured else "clock")
    axes.set_title(heading, loc="left", fontsize=10)
    axes.legend(
        handles=[Patch(color=_COLOURS[name], label=name) for name in _COLOURS if name in drawn],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize=8,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if figure is not None and path is not None:
        figure.savefig(path, dpi=150)
