"""What `tfdist.strategy` refuses is a whole sentence, and comes before TensorFlow is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import tfdist
from tfdist import log, process
from tfdist.cluster import Cluster
from tfdist.errors import ClusterError, StrategyError
from tfdist.strategies import factory

TWO = Cluster({"worker": ("127.0.0.1:1", "127.0.0.1:2")})
SERVERS = Cluster(
    {"chief": ("127.0.0.1:1",), "worker": ("127.0.0.1:2",), "ps": ("127.0.0.1:3",)},
)


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy that is refused has already noted who the process is."""
    monkeypatch.setattr(process, "_joined", None)
    monkeypatch.setattr(factory, "tell_by_exit_code", lambda: None)
    monkeypatch.setattr(log, "set_task", lambda task: None)


def refused(what: Callable[[], Any], kind: type[Exception] = StrategyError) -> str:
    with pytest.raises(kind) as caught:
        what()
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "counts"),
    [("multi_worker_mirrored", "--workers 2"), ("parameter_server", "--workers 2 --ps 1")],
)
def test_a_kind_over_machines_needs_a_cluster(kind: str, counts: str) -> None:
    assert refused(lambda: tfdist.strategy(kind)) == (
        f"{kind} needs a cluster, but TF_CONFIG is not set: start the program with `tfdist run "
        f"{counts} script.py`, or set TF_CONFIG on every machine"
    )


@pytest.mark.parametrize("kind", ["one_device", "mirrored"])
def test_a_kind_of_one_machine_refuses_a_cluster_of_several_workers(kind: str) -> None:
    assert refused(lambda: tfdist.strategy(kind, TWO.with_task("worker:1"))) == (
        f"{kind} trains on this machine alone, but the cluster has several workers, which would "
        "each train a model of their own: use kind='auto', or unset TF_CONFIG"
    )


def test_a_misspelt_kind_is_refused_before_the_options_are_read() -> None:
    options: dict[str, Any] = {"device": 3, "nothing": True}
    assert refused(lambda: tfdist.strategy("mirorred", **options)).startswith(
        "no strategy 'mirorred'; did you mean 'mirrored'? there is auto, "
    )


def test_a_misspelt_option_is_refused_before_the_cluster_is_looked_at() -> None:
    options: dict[str, Any] = {"microbatch": 2}
    assert refused(lambda: tfdist.strategy("parameter_server", **options)).startswith(
        "no option 'microbatch'; did you mean 'microbatches'? it knows device, "
    )


def test_an_option_that_the_kind_would_ignore_is_refused_before_the_cluster_is_looked_at() -> None:
    assert refused(lambda: tfdist.strategy("parameter_server", communication="ring")) == (
        "communication means nothing to the strategy 'parameter_server', only to "
        "multi_worker_mirrored: leave it out or ask for that kind"
    )


def test_an_option_that_auto_would_ignore_is_not_refused() -> None:
    """A script may say what matters in some settings only; here the cluster is what is wrong."""
    both = Cluster({"worker": ("127.0.0.1:1",), "ps": ("127.0.0.1:2",)}).with_task("worker:0")
    said = refused(lambda: tfdist.strategy(cluster=both, logical_devices=2), ClusterError)
    assert said.startswith("no chief in the cluster (1 worker, 1 ps)")


@pytest.mark.parametrize("kind", ["multi_worker_mirrored", "pipeline"])
def test_a_kind_without_servers_refuses_a_cluster_with_some(kind: str) -> None:
    said = refused(lambda: tfdist.strategy(kind, SERVERS.with_task("worker:0")), ClusterError)
    assert said.startswith(f"ps in the cluster (1 chief, 1 worker, 1 ps) under {kind}, which has ")


def test_a_wrong_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"clutser": {}}')
    assert "did you mean 'cluster'" in refused(tfdist.strategy, ClusterError)


EARLY = """
import json, sys
import tfdist

def refused(*given, **options):
    try:
        tfdist.strategy(*given, **options)
    except tfdist.errors.TfdistError as error:
        return type(error).__name__, error.exit_code

two = tfdist.Cluster({"worker": ("127.0.0.1:1", "127.0.0.1:2")}).with_task("worker:0")
found = [
    refused("mirorred"),
    refused(microbatch=2),
    refused("mirrored", communication="ring"),
    refused("parameter_server"),
    refused("one_device", two),
    refused("parameter_server", two),
]
print(json.dumps([found, sorted({"tensorflow", "keras", "numpy"} & set(sys.modules))]))
"""


def test_all_that_is_refused_for_its_words_is_refused_before_tensorflow_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found, imported = json.loads(done.stdout)
    assert found == [*[["StrategyError", 64]] * 5, ["ClusterError", 64]]
    assert imported == []
