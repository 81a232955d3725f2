"""The simulator as a picture: ways to 512 workers, and predictions beside published numbers."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from tests.figures import published_tables
from tfdist.bench.other_ways import Way, share_that_trains
from tfdist.scaling.hierarchy import Hierarchy, HostRing
from tfdist.scaling.in_step import InStep
from tfdist.scaling.link import Link
from tfdist.scaling.parameter_servers import ParameterServers
from tfdist.scaling.pipeline_replicas import PipelineReplicas
from tfdist.scaling.sharded_update import ShardedUpdate
from tfdist.scaling.step_work import StepWork

__all__ = ["BETWEEN", "SLOW", "TASKS", "WITHIN", "WORK", "WORKERS", "draw", "efficiency", "ways"]

WORK = StepWork(compute=0.2, size=100e6, update=0.01)
TASKS = 8
BETWEEN, WITHIN = Link(50e-6, 1.25e9), Link(10e-6, 10e9)
WORKERS = [2**i for i in range(1, 10)]
SLOW = 2.0


def draw(path: Path) -> None:
    """Draws both, and writes an SVG."""
    with rc_context({"svg.hashsalt": "tfdist", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10.5, 5.2), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)  # needs no screen
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        _ways(left)
        _published(right)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    drawn = path.read_text()
    path.write_text(drawn.replace("<svg ", '<svg role="img" ', 1).replace("<metadata>", _WORDS, 1))


_WORDS = """\
<title>Scale on paper</title>
 <desc>Left: the predicted efficiency of each way to train on 2 to 512 workers. It falls where a
 job leaves its first host: that of a ring to little more than half, and on with the workers; that
 of parameter servers, which share their hosts' links with the workers, to a tenth, where it stays.
 Right: published efficiencies beside the two predictions of each.</desc>
 <metadata>"""


def ways() -> dict[str, tuple[Way, str, str]]:
    """Ways to train, each with its colour and line."""
    sums = Hierarchy(BETWEEN, WITHIN, TASKS)
    flat = HostRing(sums)
    return {
        "ring": (InStep(flat), "#0072B2", "-"),
        "ring, one slow": (InStep(flat, slow_by=SLOW), "#0072B2", ":"),
        "sums within hosts first": (InStep(sums), "#56B4E9", "-"),
        "shares of the update": (ShardedUpdate(flat), "#CC79A7", "--"),
        "pipelines of 2": (PipelineReplicas(2, 8, flat), "#009E73", "-"),
        "parameter servers": (ParameterServers(sums), "#D55E00", "-"),
        "parameter servers, one slow": (
            ParameterServers(sums, slow_by=SLOW),
            "#D55E00",
            ":",
        ),
    }


def efficiency(way: Way, workers: int) -> float:
    """Over one worker alone, and over servers, too."""
    return WORK.alone / way.seconds(WORK, workers) * share_that_trains(way, workers)


def _ways(axes: Axes) -> None:
    for name, (way, colour, line) in ways().items():
        shares = [efficiency(way, count) for count in WORKERS]
        axes.plot(WORKERS, shares, line, color=colour, label=name, linewidth=1.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks(WORKERS)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(title="efficiency, predicted", xlabel="workers", ylim=(0, 1.02))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)


def _published(axes: Axes) -> None:
    groups = {
        "Horovod": published_tables.horovod(),
        "Goyal et al.": published_tables.goyal(),
        "TensorFlow's servers": published_tables.servers(),
    }
    place, names = 0, []
    colours = ("#0072B2", "#009E73", "#D55E00")
    for (group, rows), colour in zip(groups.items(), colours, strict=True):
        for i, row in enumerate(rows):
            ends = [row.added, row.added if row.hidden is None else row.hidden]
            axes.plot(ends, [place] * 2, color=colour, linewidth=4, alpha=0.45)
            label = group if i == 0 else None
            axes.plot(row.told, place, "o", color=colour, markersize=5, label=label)
            names.append(f"{row.what}, {row.workers}".replace(" Gbit/s", "G"))
            place += 1
    axes.set_yticks(range(place), names, fontsize=6.5)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(title="efficiency, published (dot) and predicted (line)", xlim=(0.5, 1.03))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.legend(fontsize=8, loc="lower left")
