"""Pipelined model parallelism: schedules, how a model is cut, and their pictures.

    strategy = tfdist.strategy("pipeline", microbatches=8, schedule="1f1b")
    print(tfdist.pipeline.draw("1f1b", 4, 8))
    print(tfdist.pipeline.draw(tfdist.pipeline.measure(model, (x, y))))

Schedules: "1f1b" holds the fewest microbatches, "zero_bubble" waits less, "interleaved" and "zb_v"
give each task several stages that do not follow each other, "gpipe" holds all microbatches, and
"sequential" is what they are compared with; see `tfdist.schedules.schedule`.

Importing it imports no TensorFlow; `measure` and `measure_costs` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfdist.schedules.drawing import draw
from tfdist.schedules.pipeline_plan import PipelinePlan
from tfdist.schedules.schedule import (
    SCHEDULES,
    Slot,
    gpipe,
    interleaved,
    one_f_one_b,
    sequential,
    zb_v,
    zero_bubble,
)
from tfdist.schedules.simulation import SlotSeconds, simulate
from tfdist.schedules.timings import Timing, Timings

if TYPE_CHECKING:
    from tfdist.training.pipelined.layer_costs import measure_costs
    from tfdist.training.slot_timing import measure

__all__ = [
    "SCHEDULES",
    "PipelinePlan",
    "Slot",
    "SlotSeconds",
    "Timing",
    "Timings",
    "draw",
    "gpipe",
    "interleaved",
    "measure",
    "measure_costs",
    "one_f_one_b",
    "sequential",
    "simulate",
    "zb_v",
    "zero_bubble",
]


def __getattr__(name: str) -> Any:
    # These need a model, and so TensorFlow and the rooms to the right.
    if name == "measure":
        from tfdist.training.slot_timing import measure

        return measure
    if name == "measure_costs":
        from tfdist.training.pipelined.layer_costs import measure_costs

        return measure_costs
    raise AttributeError(f"module 'tfdist.pipeline' has no attribute {name!r}")
