"""The results as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from tests.benchmarks.results import Results
from tests.benchmarks.variants import GROUPS, VARIANTS

__all__ = ["draw"]

# Colours that people with any colour vision tell apart (Okabe and Ito); the labels say the same.
_COLOURS = {
    "tfdist": "#0072B2",
    "hand-written": "#999999",
    "tf_keras": "#D55E00",
    "Keras": "#CC79A7",
    "torch": "#009E73",
}
_ROW_INCHES = 0.3
_FRAME_INCHES = 1.05  # of a group: its title, its panels' titles, their axes


def draw(results: Results, path: Path) -> None:
    """Draws a panel of bars for each model and group, and writes a PNG.

    Args:
        results: what was measured.
        path: the file.
    """
    groups = [group for group in GROUPS if results.models(group)]
    columns = max(len(results.models(group)) for group in groups)
    rows = [len(results.variants(group)) for group in groups]
    height = _ROW_INCHES * sum(rows) + _FRAME_INCHES * len(groups) + 0.3
    figure = Figure(figsize=(3.0 + 2.6 * columns, height))
    figure.set_layout_engine(ConstrainedLayoutEngine(h_pad=0.16))  # room for the groups' titles
    FigureCanvasAgg(figure)  # needs no screen
    axes = figure.subplots(len(groups), columns, squeeze=False, height_ratios=rows)
    for line, group in zip(axes, groups, strict=True):
        models = results.models(group)
        for axis, model in zip(line, models, strict=False):
            _panel(axis, results, group, model, labelled=model == models[0])
        for axis in line[len(models) :]:
            axis.set_visible(False)
        title = line[0].annotate(
            GROUPS[group].format(workers=results.settings["workers"]),
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, 24),
            textcoords="offset points",
            fontsize=11,
            fontweight="bold",
        )
        title.set_in_layout(False)  # or the first column would be as wide as the title
    figure.suptitle("Milliseconds a step: median (bar) and quartiles (line)", fontsize=11)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _panel(axis: Axes, results: Results, group: str, model: str, labelled: bool) -> None:
    variants = results.variants(group)
    longest = 0.0
    for place, variant in enumerate(variants):
        ms = results.step_ms(variant, model)
        if ms is None:
            continue
        label = VARIANTS[variant].label
        colour = next(colour for name, colour in _COLOURS.items() if label.startswith(name))
        axis.barh(place, ms.median, height=0.62, color=colour)
        axis.plot([ms.low, ms.high], [place, place], color="black", linewidth=1.5)
        digits = 2 if ms.median < 10 else 1
        axis.annotate(
            f"{ms.median:.{digits}f}",
            (max(ms.median, ms.high), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
        longest = max(longest, ms.high)
    axis.set_xlim(0, 1.22 * longest or 1.0)
    axis.set_ylim(len(variants) - 0.5, -0.5)
    axis.set_yticks(range(len(variants)))
    axis.set_yticklabels([VARIANTS[variant].label if labelled else "" for variant in variants])
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_title(model, loc="left", fontsize=10)
    axis.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
