"""Families of networks on every strategy: each example's test score beside plain Keras'.

    python -m tests.figures.families                                 half an hour on two cores
    python -m tests.figures.families --families spam,denoise --ways plain,workers

Runs the example scripts as people do, by flags alone, and writes what they have told to
`tests/figures/results/families.md`. What an earlier call has found of others stays there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks import machine

RESULTS = Path(__file__).parent / "results"
SECONDS = 600.0
FAMILIES = {
    "spam": "feed-forward",
    "digits": "convolutional",
    "sunspots": "recurrent (LSTM)",
    "denoise": "autoencoder",
    "recommender": "factorization machine",
    "two_towers": "two towers",
    "gpt": "transformer",
    "resnet": "residual network",
    "finetune": "vision transformer of keras_hub, tuned",
}
"""The examples, and what each of them is."""

WHY = (
    "Where a score is not plain Keras': updates by several workers of parameter servers miss each "
    "other's steps, most of all Adam's; `two_towers` draws the first weights of a sharded table "
    "shard by shard when its first batch has built it; the normalizations of `resnet` let "
    "float32's rounding grow, and in a pipeline they see microbatches; `finetune` is rounding, "
    "too, of 360 images."
)


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to run an example: the launcher's arguments, if it is needed, and the script's."""

    name: str
    launch: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


WAYS = {
    "plain": Way("plain Keras"),
    "one_device": Way("one device"),
    "mirrored": Way("2 mirrored replicas", flags=("--logical_devices", "2")),
    "workers": Way("2 workers", ("--workers", "2")),
    "one_of_ps": Way("1 worker, 1 ps", ("--workers", "1", "--ps", "1")),
    "ps": Way("2 workers, 1 ps", ("--workers", "2", "--ps", "1")),
    "pipeline": Way("pipeline of 2", ("--workers", "2", "--chief"), ("--strategy", "pipeline")),
}


def train_plainly(family: str) -> None:
    """Runs an example in this process as if its lines about tfdist were not there."""
    import tensorflow as tf

    import tfdist

    tfdist.strategy = lambda *_, **__: tf.distribute.get_strategy()
    tfdist.plug = lambda model, **_: model
    sys.argv[1:] = []
    runpy.run_module(f"tfdist.examples.{family}", run_name="__main__")


def score(family: str, way: Way) -> tuple[str, float | str]:
    """Runs one example; returns the metric's name and value, or the reason for a refusal."""
    if way is WAYS["plain"]:
        command = [sys.executable, "-m", "tests.figures.families", "--plain", family]
    else:
        launch = ("-m", "tfdist", "run", *way.launch) if way.launch else ()
        command = [sys.executable, *launch, "-m", f"tfdist.examples.{family}", *way.flags]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    told = re.search(r"test ([\w ]+): ([\d.]+)", ran.stdout)
    if ran.returncode == 0 and told:
        return told[1], float(told[2])
    errors = re.findall(r"\w+Error: (.+)", ran.stdout + ran.stderr)
    return "", errors[-1] if errors else f"exit code {ran.returncode}"


def main() -> None:
    """Runs what was asked for, and writes JSON and Markdown after each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--families", type=lambda names: names.split(","), default=[*FAMILIES])
    parser.add_argument("--ways", type=lambda names: names.split(","), default=[*WAYS])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--plain", choices=FAMILIES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plain:
        train_plainly(asked.plain)
        return
    asked.output.mkdir(parents=True, exist_ok=True)
    file = asked.output / "families.json"
    before = json.loads(file.read_text()) if file.exists() else {"scores": {}}
    here = machine.describe()
    found: dict[str, Any] = {"machine": here, **{k: before.get(k, {}) for k in ("scores", "with")}}
    for way in asked.ways:
        for family in asked.families:
            metric, told = score(family, WAYS[way])
            found["scores"].setdefault(family, {})[way] = [metric, told]
            found["with"][family] = here["versions"]["tfdist"]
            print(f"{family}, {WAYS[way].name}: {metric} {told}", flush=True)
            file.write_text(json.dumps(found, indent=1) + "\n")
            (asked.output / "families.md").write_text(markdown(found))
    print((asked.output / "families.md").read_text())


def markdown(found: dict[str, Any]) -> str:
    """Returns the table: a line a family, a column a way, and the reasons for what was refused."""
    here = found["machine"]
    others = ", ".join(f"{k} {v}" for k, v in here["versions"].items() if k != "tfdist")
    scores = found["scores"]
    versions = "; ".join(
        f"tfdist {one}: {', '.join(f'`{k}`' for k in FAMILIES if found['with'].get(k) == one)}"
        for one in sorted(set(found["with"].values()))
    )
    ways = [name for name in WAYS if any(name in told for told in scores.values())]
    titles = ["example", "network", "score", *(WAYS[name].name for name in ways)]
    lines = ["| " + " | ".join(titles) + " |", "|---|---|---|" + "---:|" * len(ways)]
    reasons = []
    for family in [family for family in FAMILIES if family in scores]:
        score_of = next((metric for metric, _ in scores[family].values() if metric), "")
        cells = [f"`{family}`", FAMILIES[family], f"test {score_of}"]
        for name in ways:
            metric, told = scores[family].get(name, ["", ""])
            if told and not metric:
                reasons.append(f"- `{family}`, {WAYS[name].name}: {told}")
                told = "refused"
            places = 2 if family == "sunspots" else 4
            cells.append(told if isinstance(told, str) else f"{told:.{places}f}")
        lines.append("| " + " | ".join(cells) + " |")
    how = (
        "Each example of `tfdist/examples` by flags alone, with its own defaults and seed. "
        "Measured by `python -m tests.figures.families`, "
        f"{here['cores']} cores ({here['processor']}); {others}. {versions}."
    )
    parts = ["# Families of networks", how, "\n".join(lines), "\n".join(reasons), WHY]
    return "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    main()
