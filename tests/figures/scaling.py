"""The simulator of scaling beside published tables, and beside what was measured here.

    python -m tests.figures.scaling          some seconds; it runs nothing

Writes `tests/figures/results/scaling.md`, and the picture beside it, by matplotlib. What others
have published is in `tests/figures/published`, with the sources; what was measured is that of
other figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from tests.figures import measured_points, published_tables
from tests.figures.published_tables import BACKWARD, LATENCIES, LATENCY, Comparison, read
from tests.figures.scaling_picture import BETWEEN, SLOW, TASKS, WITHIN, WORK, draw
from tests.figures.scaling_summary import summary

RESULTS = Path(__file__).parent / "results"
TEMPLATE = Path(__file__).with_name("scaling_template.md")


def main() -> None:
    """Writes the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "scaling.md").write_text(page())
    draw(asked.output / "scaling.svg")
    print(page())
    print(summary())  # for docs/figures/index.md


def page() -> str:
    """Returns the page."""
    link = measured_points.Calibrated.found().link
    own = (
        measured_points.sent,
        measured_points.pipelines,
        measured_points.ring,
        measured_points.sums,
        measured_points.portions,
        measured_points.servers,
    )
    return TEMPLATE.read_text().format(
        megabytes=WORK.size / 1e6,
        compute=1e3 * WORK.compute,
        update=1e3 * WORK.update,
        tasks=TASKS,
        between=1e6 * BETWEEN.latency,
        within=1e6 * WITHIN.latency,
        slow=SLOW,
        latency=1e6 * LATENCY,
        sensitivity=_sensitivity(),
        backward=BACKWARD,
        horovod=_section("horovod", published_tables.horovod()),
        goyal=_section("goyal", published_tables.goyal()),
        alone=read("goyal")["alone"],
        tensorflow_servers=_section("tensorflow_servers", published_tables.servers()),
        network=read("tensorflow_servers")["network"],
        gpipe=_section("gpipe", published_tables.gpipe()),
        left_out="\n".join(f"- {what}: {why}." for what, why in read("left_out").items()),
        link_latency=1e3 * link.latency,
        link_bandwidth=link.bandwidth / 1e6,
        load=json.loads(measured_points.BENCH.read_text())["load"],
        **{rows.__name__: _table(rows()) for rows in own},
    )


def _section(name: str, rows: Iterable[Comparison]) -> str:
    table = read(name)
    return f"{table['what']}. Source: {table['source']}.\n\n{_table(rows, 'published')}"


def _table(rows: Iterable[Comparison], told: str = "measured") -> str:
    found = list(rows)
    both = found[0].hidden is not None
    head = ["of", "workers", told, "added" if both else "predicted", "error"]
    lines = [head + (["hidden", "error", "between"] if both else [])]
    for row in found:
        cells = [row.what, row.workers, _number(row.told), _number(row.added)]
        cells.append(f"{100 * row.errors[0]:+.0f} %")
        if row.hidden is not None:
            cells += [_number(row.hidden), f"{100 * row.errors[1]:+.0f} %"]
            cells.append("yes" if row.between else "no")
        lines.append(cells)
    lines.insert(1, ["---", "---", *["---:"] * (len(lines[0]) - 2)])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{_summary(found)}"


def _summary(rows: list[Comparison]) -> str:
    """The middle and the largest of the errors' sizes."""
    columns = zip(*(row.errors for row in rows), strict=True)
    names = ("added", "hidden") if rows[0].hidden is not None else ("",)
    told = []
    for name, errors in zip(names, columns, strict=True):
        sizes = [100 * abs(error) for error in errors]
        text = f"{statistics.median(sizes):.0f} % (median), {max(sizes):.0f} % at most"
        told.append(f"{name}: {text}" if name else text)
    said = f"Errors: {'; '.join(told)}."
    if rows[0].hidden is not None:
        inside = sum(row.between for row in rows)
        said += f" Between both predictions: {inside} of {len(rows)}."
    return said


def _sensitivity() -> str:
    """How much the predictions change with the latency."""
    tables = (published_tables.horovod, published_tables.goyal, published_tables.servers)
    most = []
    for latency in LATENCIES:
        changes = [
            abs(other.added / one.added - 1)
            for table in tables
            for one, other in zip(table(), table(latency), strict=True)
        ]
        most.append(f"{1e6 * latency:.0f} µs change one by {100 * max(changes):.0f} %")
    return f"{' and '.join(most)} at most"


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 2 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
