"""Step time of tfdist's `fit` beside what one would use instead.

    python -m tests.benchmarks.step_time                      # all, about 25 minutes on two cores
    python -m tests.benchmarks.step_time --models tiny --variants tfdist_fit,hand_loop
    python -m tests.benchmarks.step_time --render             # the tables and the plot anew

The results are written after every group: a run can be interrupted, and what it has is rendered.

All variants of a group are alive at the same time and take turns, so that whatever the machine does
meanwhile is shared by all; every group is started several times, since a process has a speed of its
own (where its memory lies, for one). tf_keras and torch are measured where they are installed.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging

from tests.benchmarks import machine
from tests.benchmarks.crew import Crew, Turn
from tests.benchmarks.models import MODELS, Model
from tests.benchmarks.results import Results, Run
from tests.benchmarks.tables import markdown
from tests.benchmarks.variants import GROUPS, VARIANTS, WORKERS, Variant
from tfdist.errors import LaunchError

_MODELS = flags.DEFINE_list("models", list(MODELS), "The models to train.")
_VARIANTS = flags.DEFINE_list("variants", list(VARIANTS), "The alternatives to compare.")
_ROUNDS = flags.DEFINE_integer("rounds", 12, "Turns of every job, over all restarts.", 1)
_RESTARTS = flags.DEFINE_integer("restarts", 3, "How often all processes are started anew.", 1)
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes of a job of several workers.", 1)
_STEPS = flags.DEFINE_integer("steps", None, "Steps of a turn; by default each model's own.", 1)
_OUTPUT = flags.DEFINE_string(
    "output", str(Path(__file__).parent / "results"), "The folder for the results."
)
_NAME = flags.DEFINE_string("name", "step_time", "Of the files there: its words are the heading.")
_RENDER = flags.DEFINE_bool("render", False, "Measure nothing: draw the results in --output anew.")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    for given, known in ((_MODELS.value, MODELS), (_VARIANTS.value, VARIANTS)):
        if unknown := [name for name in given if name not in known]:
            raise app.UsageError(f"no {unknown[0]!r}; there is {', '.join(known)}")
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    content = output / f"{_NAME.value}.json"
    if _RENDER.value:
        results = Results.from_json(json.loads(content.read_text()))
    else:
        results = start()
        try:
            measure(results, content)
        except KeyboardInterrupt:
            results.notes.append("the run was interrupted: the figures are of fewer turns")
            write(results, content)
        if not any(run.step_ms for run in results.runs):
            raise SystemExit("\n".join(["nothing was measured:", *results.notes]))
    render(results, output)
    print((output / f"{_NAME.value}.md").read_text())


def start() -> Results:
    """Returns results that hold nothing yet."""
    return Results(
        machine=machine.describe(),
        settings={
            "workers": _WORKERS.value,
            "rounds": _ROUNDS.value,
            "restarts": min(_RESTARTS.value, _ROUNDS.value),
            "steps": _STEPS.value,
        },
        notes=[],
        runs=[],
    )


def measure(results: Results, content: Path) -> None:
    """Measures what the flags ask for, and writes what there is after every group."""
    chosen = []
    for name in _VARIANTS.value:
        missing = VARIANTS[name].missing()
        if missing:
            results.notes.append(f"{name} was left out: {', '.join(missing)} is not installed")
        else:
            chosen.append(VARIANTS[name])
    restarts = results.settings["restarts"]
    with tempfile.TemporaryDirectory() as logs:
        for restart in range(restarts):
            turns = len(range(restart, _ROUNDS.value, restarts))
            for name in _MODELS.value:
                for group in GROUPS:
                    variants = [variant for variant in chosen if variant.group == group]
                    folder = Path(logs, str(restart), name)
                    _measure_group(results, variants, MODELS[name], restart, turns, folder)
                    write(results, content)


def write(results: Results, content: Path) -> None:
    """Writes the JSON as a whole, or not at all."""
    part = content.with_suffix(".part")
    part.write_text(json.dumps(_rounded(results.to_json()), indent=1) + "\n")
    part.replace(content)


def _measure_group(
    results: Results,
    variants: Sequence[Variant],
    model: Model,
    restart: int,
    turns: int,
    logs: Path,
) -> None:
    """Starts a job for each variant, lets them take turns, and adds what came out."""
    crews: dict[str, Crew] = {}
    runs: dict[str, Run] = {}
    alone = [variant.group != WORKERS for variant in variants]
    steps = _STEPS.value or (model.steps_alone if any(alone) else model.steps)

    def drop(name: str, error: LaunchError) -> None:
        logging.error("%s", error)
        results.notes.append(str(error).splitlines()[0].rstrip(":"))
        crews.pop(name).close()

    try:
        for variant in variants:
            name = variant.name
            workers = 1 if variant.group != WORKERS else _WORKERS.value
            folder = logs / name
            crew = Crew(variant, model, workers=workers, steps=steps, turns=turns, logs=folder)
            crews[name] = crew
            try:
                stages = crew.start()
            except LaunchError as error:
                drop(name, error)
                continue
            runs[name] = Run(
                variant.group, model.name, name, restart, stages, [], [], [], memory_mb=[]
            )
            logging.info("%s, %s: warm", model.name, name)
        for turn in range(turns):
            order = list(crews)
            random.Random(f"{restart} {turn} {model.name}").shuffle(order)
            for name in order:
                try:
                    _add(runs[name], crews[name].turn())
                except LaunchError as error:
                    drop(name, error)
        for name in list(crews):
            try:
                runs[name].memory_mb.extend(crews[name].end())
            except LaunchError as error:
                drop(name, error)
    finally:
        for crew in crews.values():
            crew.close()
    results.runs.extend(runs.values())


def _add(run: Run, turn: Turn) -> None:
    run.step_ms.append(turn.step_ms)
    run.cpu_ms.append(turn.cpu_ms)
    run.foreign.append(turn.foreign)
    logging.info(
        "%s, %s: %.3f ms a step, %.3f ms computed, %.0f %% of the machine elsewhere",
        run.model,
        run.variant,
        turn.step_ms,
        turn.cpu_ms,
        100 * turn.foreign,
    )


def render(results: Results, output: Path) -> None:
    """Writes the tables and the plot."""
    from tests.benchmarks.plot import draw

    (output / f"{_NAME.value}.md").write_text(markdown(results, _NAME.value))
    draw(results, output / f"{_NAME.value}.png")


def _rounded(value: object) -> object:
    """Five digits are more than the clock gives."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value


if __name__ == "__main__":
    app.run(main)
