"""What `docs/figures/index.md` says of the simulator, in the numbers of the comparisons."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from tests.figures import measured_points, published_tables
from tests.figures.published_tables import Comparison

__all__ = ["summary"]


def summary() -> str:
    """Returns the section's text, without its line breaks."""
    horovod, goyal = list(published_tables.horovod()), list(published_tables.goyal())
    servers, gpipe = list(published_tables.servers()), list(published_tables.gpipe())
    gpus = [int(row.workers.split()[0]) for row in horovod]
    inside = sum(row.between for row in horovod)
    (longer,) = published_tables.read("goyal")["longer"].items()
    even = [row for row in gpipe if "Transformer" in row.what and row.workers.endswith("M = 32")]
    uneven = [row for row in gpipe if row not in even]
    sums = list(measured_points.sums())
    return (
        "`python -m tests.figures.scaling` ([tables and picture](scaling.md)) compares the "
        "simulator behind `tfdist bench` with what others have published; nothing is calibrated on "
        f"it, but for one number. Efficiencies of {len(horovod)} rings of Horovod on {min(gpus)} "
        f"to {max(gpus)} GPUs are missed by {_errors(horovod)} if sums come after the computing, "
        f"and by {_errors(horovod, 1)} if they hide behind the backward pass, and {inside} of the "
        f"{len(horovod)} lie between. The {_word(len(goyal))} of Goyal et al. are missed by "
        f"{_errors(goyal)} and {_errors(goyal, 1)}, and their seconds of one server are derived "
        f"from those of {longer[0]} GPUs over {longer[1]}, the number that is then compared. Those "
        f"of {len(servers)} jobs with TensorFlow's parameter servers are missed by "
        f"{_errors(servers)} and {_errors(servers, 1)}, GPipe's Transformers with 32 microbatches "
        f"by {_range(even)}; with fewer, and AmoebaNet, whose stages are unequal, by "
        f"{_range(uneven)}. In brackets is the largest error, before it the median. Of what was "
        f"measured here, bytes are missed by {_errors(measured_points.sent())}, pipelines by "
        f"{_errors(measured_points.pipelines())}, a straggler among eight workers with portions of "
        f"a batch by {_errors(measured_points.portions())}, steps of two workers on two cores by "
        f"{_errors(measured_points.ring())}, parameter servers by "
        f"{_errors(measured_points.servers())}, and sums of three workers on two busy cores, from "
        f"those of two, by {_errors(sums)}."
    )


def _sizes(rows: Iterable[Comparison], which: int = 0) -> list[float]:
    return [100 * abs(row.errors[which]) for row in rows]


def _errors(rows: Iterable[Comparison], which: int = 0) -> str:
    """The median of the errors' sizes, and the largest."""
    sizes = _sizes(rows, which)
    if max(sizes) < 1:
        return "less than 1 %"
    return f"{statistics.median(sizes):.0f} % ({max(sizes):.0f})"


def _range(rows: Iterable[Comparison]) -> str:
    sizes = _sizes(rows)
    return f"{min(sizes):.0f} to {max(sizes):.0f} %"


def _word(number: int) -> str:
    return {2: "two"}.get(number, str(number))
