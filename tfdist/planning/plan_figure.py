"""A plan as a picture, by matplotlib."""

from __future__ import annotations

from pathlib import Path

from tfdist.errors import ClusterError
from tfdist.planning.recommendation import Plan, recommend

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
_TIMES = {"compute": "#0072B2", "all_reduce": "#D55E00", "input": "#009E73", "python": "#999999"}


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


def draw_plan(plan: Plan, path: Path) -> None:
    """Draws memory by task and time by number of workers.

    Args:
        plan: what is drawn.
        path: the picture; its ending says the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    memory, times = figure.subplots(1, 2, width_ratios=(3, 2))
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

    places = [f"{count}" + ("" if count <= 2 else "*") for count in plan.counts]
    bottom = [0.0] * len(places)
    for part, colour in _TIMES.items():
        heights = [1e3 * getattr(plan.speed.split(count), part) for count in plan.counts]
        label = "exchange" if part == "all_reduce" else part
        times.bar(places, heights, bottom=bottom, color=colour, label=label)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    for place, height, count in zip(places, bottom, plan.counts, strict=True):
        gain = f"{plan.speed.gain(count):.2f}x"
        times.annotate(gain, (place, height), ha="center", va="bottom", fontsize=8)
    times.set_ylim(0, 1.1 * max(bottom))
    times.set(title="ms a step; times the examples/s of one", xlabel="workers (*: predicted)")
    times.legend(fontsize=8)
    found = recommend(plan).command
    figure.suptitle(f"{plan.what}: " + (f"take {found}" if found else "nothing fits"))
    figure.savefig(path, dpi=150)
