"""The simulator beside published tables: how far it may be off, and the page that says so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.figures import measured_points, published_tables, scaling, scaling_picture
from tests.figures.published_tables import PUBLISHED, Comparison
from tests.figures.scaling_summary import summary

FILES = sorted(path for path in PUBLISHED.glob("*.json") if path.stem != "left_out")


def test_the_page_is_what_its_command_writes() -> None:
    assert (scaling.RESULTS / "scaling.md").read_text() == scaling.page()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_table_has_its_source_and_a_year(path: Path) -> None:
    assert re.search(r"20[12]\d", json.loads(path.read_text())["source"])


def test_rings_are_bracketed_but_for_those_that_missed_their_bandwidth() -> None:
    rows = [*published_tables.horovod(), *published_tables.goyal()]
    outside = [f"{row.what}, {row.workers}" for row in rows if not row.between]
    assert outside == [
        "Inception V3, 40 Gbit/s, TCP, 64 GPUs",
        "VGG-16, 40 Gbit/s, TCP, 64 GPUs",
    ]
    assert len(rows) == 17


def test_servers_are_within_a_fifth() -> None:
    rows = list(published_tables.servers())
    assert len(rows) == 9
    assert max(abs(error) for row in rows for error in row.errors) < 0.2


def test_an_even_pipeline_with_many_microbatches_is_within_a_tenth() -> None:
    rows = [row for row in published_tables.gpipe() if "Transformer" in row.what]
    many = [row for row in rows if row.workers.endswith("M = 32")]
    assert len(many) == 5
    assert max(abs(row.errors[0]) for row in many) < 0.1


def test_bytes_are_those_on_the_wire() -> None:
    assert max(abs(row.errors[0]) for row in measured_points.sent()) < 0.01


def test_the_figures_of_the_documentation_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "figures" / "index.md").read_text()
    _, told = page.split("## Scale on paper\n")
    told, *_ = told.split("\n## ")
    assert " ".join(told.split()) == summary()


def test_the_summary_leaves_out_no_table_and_no_column() -> None:
    said, page = summary(), (scaling.RESULTS / "scaling.md").read_text()
    tables = re.findall(r"^Errors: (.*)\.$", page, re.MULTILINE)
    assert len(tables) == 10
    for median, most in re.findall(r"(\d+) % \(median\), (\d+) % at most", page):
        assert (
            f"{median} % ({most})" in said
            or (int(most) == 0 and "less than 1 %" in said)
            or f"to {most} %" in said
        ), (median, most)


def test_the_measured_points_have_the_pages_that_they_cite() -> None:
    source = Path(measured_points.__file__).read_text()
    cited = re.findall(r"docs/[\w/]+\.md", source)
    assert len(cited) == 3
    assert source.count("docs/") == len(cited)
    assert all((ROOT / path).exists() for path in cited)


def test_later_schedules_are_those_of_their_page() -> None:
    page = (ROOT / "docs" / "figures" / "pipeline_schedules.md").read_text()
    found = dict(
        re.findall(r"^\| (\w+|one process, 8 accumulated)(?: 8)? \| ([\d.]+) ", page, re.M)
    )
    accumulated = found.pop("one process, 8 accumulated")
    assert float(accumulated) == measured_points.ACCUMULATED
    assert {name: float(ms) for name, ms in found.items()} == measured_points.SCHEDULES


def test_no_way_in_the_picture_is_better_than_its_tasks() -> None:
    for way, *_ in scaling_picture.ways().values():
        shares = [scaling_picture.efficiency(way, count) for count in scaling_picture.WORKERS]
        assert max(shares) < 1
    servers, _, _ = scaling_picture.ways()["parameter servers"]
    work = scaling_picture.WORK
    assert scaling_picture.efficiency(servers, 64) == pytest.approx(
        work.alone / servers.seconds(work, 64) * 64 / (64 + 32)
    )


def test_a_number_between_two_predictions_is_seen_as_such() -> None:
    assert Comparison("", "", told=0.9, added=0.8, hidden=1.0).between
    assert not Comparison("", "", told=0.7, added=0.8, hidden=1.0).between
    assert not Comparison("", "", told=0.9, added=0.8).between
    assert Comparison("", "", told=0.5, added=0.4, hidden=1.0).errors == pytest.approx([-0.2, 1])
