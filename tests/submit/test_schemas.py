"""Whatever is asked for, the manifests are valid by the schemas of those who take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, product
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError

from tests.submit.schemas import VERSIONS, check
from tfdist.submit.kubernetes_job import KINDS, KubernetesJob
from tfdist.submit.pod import Pod

STRATEGIES: dict[str, dict[str, Any]] = {
    "one_device": {"workers": 1},
    "multi_worker_mirrored": {"workers": 4},
    "with an evaluator": {"workers": 2, "chief": True, "evaluator": True},
    "parameter_server": {"workers": 2, "ps": 2, "evaluator": True},
    "pipeline": {"workers": 3, "chief": True},
}
ASKED: dict[str, dict[str, Any]] = {
    "little": {},
    "much": {
        "cpus": "4",
        "memory": "8Gi",
        "variables": (("DATA", "a: b"),),
        "node_labels": (("pool", "big"), ("cloud.example/zone", "")),
        "pull_secret": "registry",
    },
    "GPUs": {"cpus": "500m", "gpus": 2, "gpu_resource": "amd.com/gpu"},
}
KEPT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "a new claim": (
        {"claim": "fit"},
        {"storage": "10Gi", "storage_class": "fast", "queue": "team"},
    ),
    "one there is": ({"claim": "runs.of-all"}, {"namespace": "ml", "restarts": 0}),
}


Case = tuple[dict[str, Any], dict[str, Any], tuple[dict[str, Any], dict[str, Any]]]


def count_of_valid(kind: str, cases: Iterable[Case], versions: Sequence[str]) -> int:
    """How many manifests these jobs have, all of them valid."""
    count = 0
    for tasks, asked, (of_pod, of_job) in cases:
        pod = Pod("registry.example/fit:1", ["train.py"], **asked, **of_pod)
        job = KubernetesJob(pod, kind=kind, name="fit", **tasks, **of_job)
        read = list(yaml.safe_load_all(job.text()))
        assert read == list(job.manifests())
        for manifest in read:
            check(manifest, versions)
            count += 1
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_manifests_are_valid(kind: str) -> None:
    cases = zip(STRATEGIES.values(), cycle(ASKED.values()), cycle([*KEPT.values()][::-1]))
    assert count_of_valid(kind, cases, VERSIONS[-1:]) > 15


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_all_manifests_are_valid_for_all_versions(kind: str) -> None:
    cases = product(STRATEGIES.values(), ASKED.values(), KEPT.values())
    count = count_of_valid(kind, cases, VERSIONS)
    assert count == {"job": 186, "jobset": 150, "trainjob": 195}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_finds_what_is_wrong(kind: str) -> None:
    job = KubernetesJob(Pod("fit:1", ["train.py"]), kind=kind, workers=2)
    for manifest in map(dict[str, Any], job.manifests()):
        if "spec" in manifest:
            with pytest.raises((AssertionError, ValidationError)):
                check({**manifest, "spec": {**manifest["spec"], "parralelism": 2}})
