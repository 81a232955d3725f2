"""A process makes one strategy over several machines, and gets it again when it asks again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tfdist.cluster import Cluster
from tfdist.errors import StrategyError
from tfdist.strategies import current
from tfdist.strategies.strategy_options import Options

HERE = Cluster({"worker": ("10.0.0.1:1", "10.0.0.2:1")}).with_task("worker:0")
ELSEWHERE = Cluster({"worker": ("10.0.0.1:1", "10.0.0.3:1")}).with_task("worker:0")
KIND = "multi_worker_mirrored"
RING = Options(communication="ring")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What this process has made: a stand-in, by a ring."""
    monkeypatch.setattr(current, "_made", None)
    strategy: Any = object()
    current.keep(strategy, KIND, HERE, RING)
    return strategy


def test_who_has_made_none_may_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "_made", None)
    assert current.made_before(KIND, HERE, Options()) is None
    assert current.of_the_job() is None


@pytest.mark.parametrize("options", [RING, Options()])
def test_who_asks_for_the_same_gets_the_first(options: Options, made: Any) -> None:
    assert current.made_before(KIND, HERE, options) is made


@pytest.mark.parametrize(
    ("kind", "cluster", "options", "what"),
    [
        (KIND, HERE, Options(intra_op_threads=3), "with other options"),
        ("pipeline", HERE, RING, "of the kind pipeline"),
        (KIND, ELSEWHERE, RING, "for other machines"),
    ],
)
def test_who_asks_for_another_is_told_of_the_first(
    kind: str, cluster: Cluster, options: Options, what: str, made: Any
) -> None:
    with pytest.raises(StrategyError, match=f"a second strategy {what} in a process.*{KIND}"):
        current.made_before(kind, cluster, options)


def test_another_thread_waits_until_a_strategy_is_made() -> None:
    asked: list[bool] = []
    thread = threading.Thread(target=lambda: asked.append(current.being_made()))
    with current.making():
        assert current.being_made()
        thread.start()
        thread.join(0.1)
        assert not asked
    thread.join(10)
    assert asked == [False]
    assert not current.being_made()
