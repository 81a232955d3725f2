"""The results as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from tests.benchmarks.results import Results
from tests.benchmarks.variants import GROUPS, VARIANTS

__all__ = ["draw"]

mpl.use("Agg")

# Colours that people with any colour vision tell apart (Okabe and Ito); shapes say the same again.
_LOOKS = {
    "tfdist": ("#0072B2", "o"),
    "hand-written": ("#333333", "s"),
    "tf_keras": ("#D55E00", "^"),
    "Keras": ("#CC79A7", "v"),
    "torch": ("#009E73", "D"),
}


def draw(results: Results, path: Path) -> None:
    """Draws a panel for each model and group, and writes a PNG.

    Args:
        results: what was measured.
        path: the file.
    """
    groups = [group for group in GROUPS if results.models(group)]
    columns = max(len(results.models(group)) for group in groups)
    heights = [len(results.variants(group)) + 1.6 for group in groups]
    figure = Figure(figsize=(2.6 + 2.9 * columns, 0.36 * sum(heights) + 0.5), layout="constrained")
    axes = figure.subplots(len(groups), columns, squeeze=False, height_ratios=heights)
    for row, group in enumerate(groups):
        models = results.models(group)
        for column in range(columns):
            axis = axes[row][column]
            if column >= len(models):
                axis.set_visible(False)
                continue
            _panel(axis, results, group, models[column], labelled=column == 0)
        text = GROUPS[group].format(workers=results.settings["workers"])
        axes[row][0].set_title(f"{text}\n{models[0]}", loc="left", fontsize=10)
    figure.supxlabel(
        "milliseconds a step (log scale): median and quartiles; the dashed line is tfdist fit",
        fontsize=10,
    )
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _panel(axis: Axes, results: Results, group: str, model: str, labelled: bool) -> None:
    variants = results.variants(group)
    medians = []
    for place, variant in enumerate(variants):
        ms = results.step_ms(variant, model)
        if ms is None:
            continue
        label = VARIANTS[variant].label
        colour, marker = next(look for name, look in _LOOKS.items() if label.startswith(name))
        axis.plot([ms.low, ms.high], [place, place], color=colour, linewidth=5, alpha=0.35)
        axis.plot([ms.median], [place], marker=marker, color=colour, markersize=7)
        digits = 2 if ms.median < 10 else 1
        axis.annotate(
            f"{ms.median:.{digits}f}",
            (ms.high, place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
        medians += [ms.low, ms.high]
        if VARIANTS[variant].way == "tfdist_fit":
            axis.axvline(ms.median, color=colour, linestyle="--", linewidth=1, zorder=0)
    axis.set_xscale("log")
    low, high = min(medians), max(medians)
    room = max(high / low, 2.0)
    axis.set_xlim(low / room**0.12, high * room**0.32)
    axis.set_ylim(len(variants) - 0.4, -0.6)
    axis.set_yticks(range(len(variants)))
    axis.set_yticklabels([VARIANTS[variant].label if labelled else "" for variant in variants])
    ticks = [tick for tick in _nice_ticks() if low / 1.2 <= tick <= high * 1.2]
    axis.set_xticks(ticks[:: max(1, (len(ticks) + 3) // 4)])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
    axis.set_title(model, loc="left", fontsize=10)
    axis.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _nice_ticks() -> list[float]:
    return [base * 10.0**power for power in range(-3, 5) for base in (1, 2, 5)]
