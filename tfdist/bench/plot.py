"""The results of `tfdist bench` as a picture, where matplotlib is installed."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tfdist.bench.measured import Measured
from tfdist.bench.other_ways import STAGES, Hosts, efficiency, ways
from tfdist.bench.report import PREDICTED

__all__ = ["draw"]


def draw(measured: Measured, path: Path, hosts: Hosts | None = None) -> bool:
    """Draws speed, the split of a step, efficiency, and that of other ways, and writes a PNG.

    Args:
        measured: what is drawn.
        path: the file.
        hosts: that more workers would be on.

    Returns:
        Whether matplotlib is installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    several = measured.network is not None
    figure = Figure(figsize=(14.5 if several else 11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    speed, share, split, *others = figure.subplots(1, 4 if several else 3)
    workers = [job.workers for job in measured.jobs]
    places = [str(count) for count in workers]

    speed.bar(places, [job.examples_a_second for job in measured.jobs], color="#0072B2")
    speed.set(title="examples/s", xlabel="workers")

    share.plot(
        workers, [100 * measured.efficiency(job) for job in measured.jobs], "o-", label="measured"
    )
    if measured.network is not None:
        found = [100 * measured.predicted(count)[1] for count in PREDICTED]
        share.plot(PREDICTED, found, "s--", color="#D55E00", label="predicted")
    share.set_xscale("log", base=2)
    share.set(title="efficiency, %", xlabel="workers", ylim=(0, None))
    share.legend()

    bottom = [0.0] * len(workers)
    for name, colour in _COLOURS.items():
        heights = [1e3 * getattr(measured.split(job), name) for job in measured.jobs]
        split.bar(places, heights, bottom=bottom, label=name.replace("_", "-"), color=colour)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    split.set(title="ms a step", xlabel="workers")
    split.legend()
    for axes in others:
        counts = (STAGES, *PREDICTED)
        for (name, way), colour in zip(
            ways(measured, hosts or Hosts()).items(), _WAYS, strict=True
        ):
            found = [100 * efficiency(measured, way, count) for count in counts]
            axes.plot(counts, found, ":" if "*" in name else "-", color=colour, label=name)
        axes.set_xscale("log", base=2)
        axes.set(title="predicted efficiency, %", xlabel="workers (*: one slow)", ylim=(0, None))
        axes.legend(fontsize=7)
    figure.suptitle(textwrap.fill(measured.what, 100))
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return True


# Colours that people with any colour vision tell apart (Okabe and Ito).
_WAYS = ("#0072B2", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#0072B2", "#D55E00", "#E69F00")
_COLOURS = {"compute": "#0072B2", "all_reduce": "#D55E00", "input": "#009E73", "python": "#999999"}
