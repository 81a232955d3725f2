"""The hangs of `tests.recovery.hangs`: what stands still, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HANGS", "Hang"]

IN_STEP = ("--workers", 2)
SERVERS = ("--workers", 2, "--ps", 1)
STAGES = ("--chief", "--workers", 2)
MWM, PS, PIPE = "multi_worker_mirrored", "parameter_server", "pipeline"
# Who leaves stacks where a task is stopped.
_ABLE: dict[tuple[str, str], tuple[str, ...]] = {
    (MWM, "worker:0"): ("worker-1",),
    (MWM, "worker:1"): ("worker-0",),
    (PS, "ps:0"): ("chief-0", "worker-0", "worker-1"),
    (PS, "worker:1"): ("chief-0", "ps-0", "worker-0"),
    (PIPE, "worker:1"): ("chief-0", "worker-0"),
}
FOR_GOOD = r"which has said nothing for \d+ s"


@dataclass(frozen=True)
class Hang:
    """One hang.

    Attributes:
        name: in the table.
        kind: of the strategy.
        options: of `tfdist run`.
        place: where in the program; "nowhere" for one that a signal brings about.
        task: which task hangs.
        says: what a line must say that names it, as a pattern.
        seconds: for how long; where a signal stops the task, how many epochs the job has.
        signal: "SIGSTOP", or "".
        seconds_stopped: after which it is let go on; None: never.
        code: how the job is to end.
        stacks: the tasks that must leave their Python stacks, as "worker-1".
        stall_timeout: of the job; servers bear the silence of a chief for ten times as long.
    """

    name: str
    kind: str
    options: tuple[object, ...]
    place: str
    task: str
    says: str
    seconds: int = 15
    signal: str = ""
    seconds_stopped: float | None = None
    code: int = 0
    stall_timeout: int = 15
    stacks: tuple[str, ...] = ()


def _in_step(name: str, place: str, says: str, code: int = 0) -> Hang:
    stacks = () if code else ("worker-0", "worker-1")
    return Hang(name, MWM, IN_STEP, place, "worker:1", says, code=code, stacks=stacks)


def _stopped(
    kind: str, options: tuple[object, ...], task: str, code: int, seconds: float | None = None
) -> Hang:
    how = "stopped for ever" if seconds is None else f"stopped for {seconds:.0f} s"
    return Hang(
        f"{task} of {kind} is {how}",
        kind,
        options,
        "nowhere",
        task,
        rf"{task}\b.*{FOR_GOOD}",
        40 if seconds is None else 40 + int(seconds),
        "SIGSTOP",
        seconds,
        code,
        3 if task == "chief:0" else 15,
        _ABLE.get((kind, task), ()),
    )


_WAITS = r"worker:0 is .* for \d+ s: it waits for worker:1, which is "

HANGS = (
    _in_step(
        "a generator",
        "generator",
        _WAITS + r"in the input pipeline .*hanging.py, line \d+, in hang",
    ),
    _in_step(
        "a map of tf.data",
        "map",
        _WAITS + r"in the input pipeline .*hanging.py, line \d+, in hang",
    ),
    _in_step("a callback", "callback", _WAITS + r"in its callbacks .*in hang"),
    _in_step("the building of a layer", "build", _WAITS + r"in its program, outside .*in hang"),
    _in_step("the tracing of a step", "trace", _WAITS + r"in fit, in code of its own, .*in hang"),
    _in_step(
        "a step, between two collectives",
        "step",
        _WAITS + r"in its train steps, in Python code that they call, .*in hang",
    ),
    _in_step(
        "a validation",
        "validation",
        _WAITS + r"in its callbacks around test steps .*in hang",
    ),
    _in_step(
        "a prediction",
        "prediction",
        _WAITS + r"in its callbacks around predict steps .*in hang",
    ),
    Hang(
        "a slow disk",
        MWM,
        IN_STEP,
        "save",
        "worker:0",
        r"worker:1 is .*: it waits for worker:0, which is saving a checkpoint",
    ),
    _in_step("the program before fit", "elsewhere", _WAITS + r"in its program, outside of fit"),
    _in_step("a fit that another never calls", "collective", r"worker:1.*(has gone|ended well)", 1),
    Hang(
        "a library that lets no Python run",
        MWM,
        IN_STEP,
        "held",
        "worker:1",
        rf"worker:0 is .*it waits for worker:1, {FOR_GOOD}",
        24,
    ),
    _stopped(MWM, IN_STEP, "worker:1", 75),
    _stopped(MWM, IN_STEP, "worker:0", 75),
    _stopped(MWM, IN_STEP, "worker:1", 0, 10.0),
    _stopped(PS, SERVERS, "ps:0", 75),
    Hang(
        "ps:0 of parameter_server is killed",
        PS,
        SERVERS,
        "nowhere",
        "ps:0",
        r"ps:0 (is gone|was ended by SIGKILL)",
        40,
        "SIGKILL",
        code=137,
    ),
    _stopped(PS, SERVERS, "worker:1", 0),
    _stopped(PS, SERVERS, "worker:1", 0, 10.0),
    _stopped(PS, SERVERS, "chief:0", 75),
    _stopped(PIPE, STAGES, "worker:1", 75),
    _stopped(PIPE, STAGES, "worker:1", 0, 10.0),
)
