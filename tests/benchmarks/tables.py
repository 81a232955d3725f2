"""The results as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.models import MODELS, REPLICA_BATCH
from tests.benchmarks.results import Results, Run
from tests.benchmarks.variants import BASELINES, GROUPS, VARIANTS, WORKERS

__all__ = ["markdown", "table"]

_STAGES = {
    "launch": "launch",
    "import": "import",
    "strategy": "rendezvous and strategy",
    "build": "build",
    "first step": "first step, with tracing",
    "second step": "second step",
}


def markdown(results: Results, name: str) -> str:
    """Returns the whole report.

    Args:
        results: what was measured.
        name: of its files, such as "step_time"; the plot is one of them.
    """
    heading = name.replace("_", " ").capitalize()
    parts = [f"# {heading}", _how(results), f"![Step times]({name}.png)"]
    for group in GROUPS:
        if results.models(group):
            parts += [f"## {_heading(results, group)}", _times(results, group)]
            if ratios := _ratios(results, group):
                parts.append(ratios)
    if results.models(WORKERS):
        parts += ["## Time to the first step", _starts(results)]
    parts += ["## Memory", _memory(results), "## The machine", _machine(results)]
    if results.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in results.notes)]
    return "\n\n".join(parts) + "\n"


def _heading(results: Results, group: str) -> str:
    text = GROUPS[group].format(workers=results.settings["workers"])
    return text[0].upper() + text[1:]


def _how(results: Results) -> str:
    settings = results.settings
    models = dict.fromkeys(run.model for run in results.runs)
    described = "; ".join(f"**{name}**: {MODELS[name].text}" for name in models)
    return (
        f"{described}. Batches of {REPLICA_BATCH} a replica, inputs from memory, SGD. All "
        "jobs of a group are alive together and take turns, after a warm-up, in an order that "
        f"changes from round to round (turns of each: {settings['rounds']}; starts of all "
        f"processes: {settings['restarts']}). `fit` shows its progress bar in the chief's log and "
        "counts accuracy; the loops written by hand, and torch's, do neither. Given are medians "
        "and, in brackets, the quartiles over all turns. Measured by "
        "`python -m tests.benchmarks.step_time`."
    )


def _times(results: Results, group: str) -> str:
    models = results.models(group)
    rows = []
    for variant in results.variants(group):
        cells = []
        for model in models:
            ms = results.step_ms(variant, model)
            ratio = results.ratio(variant, BASELINES[group], model)
            if ms is None:
                cells.append("")
                continue
            digits = 3 if ms.median < 1 else 2 if ms.median < 10 else 1
            cell = f"{ms.median:.{digits}f} ({ms.low:.{digits}f}-{ms.high:.{digits}f})"
            cells.append(cell if ratio is None else f"{cell} · {ratio:.2f}x")
        rows.append([VARIANTS[variant].label, *cells])
    text = table(["ms a step", *models], rows)
    if BASELINES[group] in results.variants(group):
        text += "\n\nThe factor is the median over that of the hand-written, in-graph loop."
    return text


def _ratios(results: Results, group: str) -> str:
    """What tfdist's `fit` is against each alternative, round by round."""
    own = next((v for v in results.variants(group) if VARIANTS[v].way == "tfdist_fit"), None)
    others = [variant for variant in results.variants(group) if variant != own]
    if own is None or not others:
        return ""
    rows = []
    for other in others:
        cells = []
        for model in results.models(group):
            faster = results.ratio_by_turn(other, own, model)
            cells.append(
                f"{faster.median:.2f} ({faster.low:.2f}-{faster.high:.2f})" if faster else ""
            )
        rows.append([VARIANTS[other].label, *cells])
    return table(["tfdist fit is faster, times", *results.models(group)], rows) + (
        "\n\nEach alternative's step time over tfdist's in the same round."
    )


def _starts(results: Results) -> str:
    models = results.models(WORKERS)
    model = "mlp" if "mlp" in models else models[0]
    rows = []
    for variant in results.variants(WORKERS):
        seconds = [_median_stage(results, variant, model, stage) for stage in _STAGES]
        cells = [f"{1e3 * value:.0f}" for value in (*seconds, sum(seconds[:-1]))]
        rows.append([VARIANTS[variant].label, *cells])
    return table([f"ms, {model}", *_STAGES.values(), "to the first step"], rows) + (
        "\n\nOf the chief, from the launcher's call; medians over the starts. The second step is "
        "the same call again, without tracing."
    )


def _median_stage(results: Results, variant: str, model: str, stage: str) -> float:
    def of_chief(run: Run) -> list[float]:
        return [stages[stage] for stages in run.stages[:1]]

    spread = results.spread(variant, model, of_chief)
    return spread.median if spread else 0.0


def _memory(results: Results) -> str:
    groups = [group for group in GROUPS if results.models(group)]
    models = list(dict.fromkeys(model for group in groups for model in results.models(group)))
    rows = []
    for group in groups:
        for variant in results.variants(group):
            cells = []
            for model in models:
                memory = results.spread(variant, model, lambda run: run.memory_mb)
                base = results.spread(BASELINES[group], model, lambda run: run.memory_mb)
                more = f" ({memory.median - base.median:+.0f})" if memory and base else ""
                cells.append(f"{memory.median:.0f}{more}" if memory else "")
            rows.append([VARIANTS[variant].label, _heading(results, group), *cells])
    return table(["MB a process, at most", "run with", *models], rows) + (
        "\n\nThe peak of the resident memory (VmHWM), of 2^20 bytes; medians, and in brackets what "
        "they are over the hand-written in-graph loop of the same group."
    )


def _machine(results: Results) -> str:
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    foreign = sorted(share for run in results.runs for share in run.foreign)
    text = (
        f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}\n- {versions}\n- load before the start: {machine['load_before']}"
    )
    if not foreign:
        return text
    usual, much = (foreign[int(part * (len(foreign) - 1))] for part in (0.5, 0.9))
    return text + (
        f"\n- taken by everything else during the turns: {100 * usual:.0f} % of the cores "
        f"(median), {100 * much:.0f} % or more in one turn of ten"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown, whose columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
