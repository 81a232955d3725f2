"""A plan as a picture, by matplotlib."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from pathlib import Path

from tfdist.errors import ClusterError
from tfdist.planning.recommendation import recommend
from tfdist.planning.script_plan import Plan

__all__ = ["check_figure", "draw_plan"]

_ENDINGS = (".svg", ".png", ".pdf")
# Colours that people with any colour vision tell apart (Okabe and Ito).
_COLOURS = {
    "program": "#999999",
    "weights": "#0072B2",
    "gradients": "#56B4E9",
    "slots": "#CC79A7",
    "activations": "#009E73",
    "exchange": "#D55E00",
}
_TIMES = {
    "compute": "#0072B2",
    "exchange": "#D55E00",
    "update": "#CC79A7",
    "waiting": "#F0E442",
    "input, Python": "#999999",
}


def check_figure(path: Path) -> None:
    """Refuses, before anything is measured, a picture that could not be written.

    Raises:
        ClusterError: the ending is unknown, the folder is not there, or matplotlib is not.
    """
    if path.suffix not in _ENDINGS:
        raise ClusterError(f"--figure {path}: give a file that ends in {', '.join(_ENDINGS)}")
    if not path.parent.is_dir():
        raise ClusterError(f"--figure {path}: there is no folder {path.parent}; make it first")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ClusterError("--figure needs matplotlib; pip install 'tfdist[plan]'") from None


@dataclasses.dataclass(frozen=True)
class _Bar:
    """A worker's step of one strategy: its parts in seconds, and examples a second over one's."""

    name: str
    parts: Mapping[str, float]
    gain: float


def _bars(plan: Plan) -> list[_Bar]:
    bars = []
    for count in plan.counts:
        split = plan.speed.split(count)
        parts = {"compute": split.compute, "exchange": split.all_reduce}
        parts["input, Python"] = split.input + split.python
        name = f"{count} worker{'s' * (count > 1)}" + "*" * (count > 2)
        bars.append(_Bar(name, parts, plan.speed.gain(count)))
    for step in plan.others:
        parts = {"exchange": step.transfer, "input, Python": step.host, **step.parts}
        bars.append(_Bar(f"{step.strategy}*", parts, plan.gain(step)))
    return bars


def draw_plan(plan: Plan, path: Path) -> None:
    """Draws memory by task and time by number of workers.

    Args:
        plan: what is drawn.
        path: the picture; its ending says the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = _bars(plan)
    figure = Figure(figsize=(13, max(4.8, 1.5 + 0.32 * len(bars))), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    memory, times = figure.subplots(1, 2, width_ratios=(1, 1))
    tasks = plan.tasks
    names = [
        one.strategy
        if one.strategy.endswith(("worker", "workers"))
        else f"{one.strategy}: {one.task}"
        for one in tasks
    ]
    left = [0.0] * len(tasks)
    for part, colour in _COLOURS.items():
        sizes = [task.parts[part] / 1e9 for task in tasks]
        memory.barh(names, sizes, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    if plan.limit / 1e9 < 2 * max(left):
        memory.axvline(plan.limit / 1e9, color="black", linestyle="--", label="limit")
    memory.invert_yaxis()
    memory.set(title="memory of a task, GB")
    memory.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.07))

    bottom = [0.0] * len(bars)
    for part, colour in _TIMES.items():
        widths = [1e3 * one.parts.get(part, 0.0) for one in bars]
        times.barh([one.name for one in bars], widths, left=bottom, color=colour, label=part)
        bottom = [a + b for a, b in zip(bottom, widths, strict=True)]
    for one, end in zip(bars, bottom, strict=True):
        label = f" {one.gain:.2f}x"
        times.annotate(label, (end, one.name), ha="left", va="center", fontsize=8)
    times.invert_yaxis()
    times.set_xlim(0, 1.15 * max(bottom))
    times.set(title="ms of a worker's step (*: predicted);\ntimes the examples/s of one worker")
    times.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.4, -0.07))
    found = recommend(plan).command
    title = f"{plan.what}: " + (f"take {found}" if found else "nothing fits")
    figure.suptitle(textwrap.fill(title, 100))
    figure.savefig(path, dpi=150)
