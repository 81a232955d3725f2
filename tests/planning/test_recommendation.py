"""What is recommended follows from the numbers, and is told with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.planning.plans import MB, memory, plan, speed
from tfdist import cli
from tfdist.planning.plan_command import size
from tfdist.planning.plan_figure import draw_plan
from tfdist.planning.plan_report import as_json, as_text
from tfdist.planning.recommendation import Plan, gigabytes, recommend


def test_workers_that_pay_are_taken() -> None:
    found = recommend(plan(most=8, exchange=0.04))
    assert found.command == "--workers 4"  # 8 bring less than 5 % more
    assert any(
        "4 workers train 1.18 times the examples a second of one" in r for r in found.reasons
    )
    assert any("more than 4 workers bring at most" in reason for reason in found.reasons)


def test_one_worker_stays_alone_where_the_exchange_takes_the_gain() -> None:
    found = recommend(plan(exchange=0.06))
    assert found.command == "--workers 1"
    assert any("the exchange is 60.0 ms" in reason for reason in found.reasons)


def test_an_option_is_told_where_it_pays() -> None:
    found = recommend(plan(most=2, exchange=0.03))
    assert any("bfloat16" in reason and "1.23 times" in reason for reason in found.reasons)
    quick = recommend(plan(most=2, exchange=0.001))
    assert not any("bfloat16" in reason for reason in quick.reasons)


def test_fewer_rows_are_taken_where_one_worker_does_not_fit() -> None:
    assert recommend(plan(limit=960 * MB, exchange=0.2)).command == "--workers 2"


def test_a_pipeline_is_taken_where_only_its_stages_fit() -> None:
    found = recommend(plan(limit=895 * MB, most=2))
    # stages of 640 + 120 + 150 and 640 + 40 + 50 MB: the first is too large, too
    assert found.command == ""
    cut = recommend(plan(limit=911 * MB, most=2))
    assert "pipeline" in cut.command
    assert "910.0 MB" in cut.reasons[-1]


def test_nothing_fits_and_what_would_help_is_told() -> None:
    found = recommend(Plan("train.py", memory(rows_each=100), speed(), 2, 500 * MB))
    assert found.command == ""
    assert "a worker takes 1.00 GB at least, more than the 500.0 MB" in found.reasons[0]
    assert "nor does a task" in found.reasons[1]


def test_text_and_json_tell_the_same() -> None:
    text, content = as_text(plan()), json.loads(as_json(plan()))
    assert f"Take {content['recommended']}:" in text
    assert [step["workers"] for step in content["steps"]] == [1, 2, 4]
    assert {task["total"] for task in content["memory"] if task["strategy"] == "2 workers"} == {
        950 * MB
    }
    assert "computed" in text
    assert "measured" in text


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("plan.svg", "plan.png"):
        draw_plan(plan(limit=1100 * MB), tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
    assert "activations" not in as_text(plan()).split("\n")[0]


@pytest.mark.parametrize(
    ("text", "bytes_of"), [("16GB", 16 * 10**9), ("1.5GiB", 3 * 2**29), ("5000", 5000)]
)
def test_a_size_is_read(text: str, bytes_of: int) -> None:
    assert size(text) == bytes_of


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--memory", "lots", "train.py"], "'lots' is no size; give 16GB"),
        (["--memory", "0", "train.py"], "'0' is no size"),
        (["--workers", "1", "train.py"], "--workers 1; give 2 or more"),
        (["--figure", "plan.gif", "train.py"], "give a file that ends in .svg"),
        (["--figure", "nowhere/plan.svg", "train.py"], "there is no folder nowhere"),
        ([], "no script"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("")
    assert cli.main(["plan", *words]) == 64
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_sizes_are_told_for_people() -> None:
    assert (gigabytes(1.24e9), gigabytes(38e6)) == ("1.24 GB", "38.0 MB")
