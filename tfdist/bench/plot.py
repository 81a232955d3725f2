"""The results of `tfdist bench` as a picture, where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path

from tfdist.bench.measured import Measured
from tfdist.bench.report import PREDICTED

__all__ = ["draw"]


def draw(measured: Measured, path: Path) -> bool:
    """Draws speed, efficiency and the split of a step, and writes a PNG.

    Returns:
        Whether matplotlib is installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    speed, share, split = figure.subplots(1, 3)
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
        heights = [1e3 * getattr(job.slowest.split, name) for job in measured.jobs]
        split.bar(places, heights, bottom=bottom, label=name.replace("_", "-"), color=colour)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    split.set(title="ms a step", xlabel="workers")
    split.legend()
    figure.suptitle(measured.what)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return True


# Colours that people with any colour vision tell apart (Okabe and Ito).
_COLOURS = {"compute": "#0072B2", "all_reduce": "#D55E00", "input": "#009E73", "python": "#999999"}
