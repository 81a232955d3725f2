"""Whether manifests are what Kubernetes, JobSet and Kubeflow take, by their own schemas."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import kubernetes_validate

__all__ = ["VERSIONS", "check"]

VERSIONS = ("1.29", "1.33", "1.37")
"""Of Kubernetes: the first with what a Job asks for, one between, and the last that is known."""

_MODELS = {
    "JobSet": "jobset_v1alpha2_job_set.JobsetV1alpha2JobSet",
    "TrainJob": "trainer_v1alpha1_train_job.TrainerV1alpha1TrainJob",
    "TrainingRuntime": "trainer_v1alpha1_training_runtime.TrainerV1alpha1TrainingRuntime",
}


def check(manifest: Mapping[str, Any], versions: Sequence[str] = VERSIONS) -> None:
    """Fails where a schema has another type for something, or does not know it.

    A Job inside of another kind is checked as the Job that comes of it, too.
    """
    kind = manifest["kind"]
    if kind not in _MODELS:
        for version in versions:
            kubernetes_validate.validate(dict(manifest), version, strict=True)
        return
    module, _, name = _MODELS[kind].partition(".")
    model = getattr(importlib.import_module(f"kubeflow_trainer_api.models.{module}"), name)
    assert model.from_dict(manifest).to_dict() == manifest  # what it does not know, it drops
    spec = manifest["spec"].get("template", manifest)["spec"]
    for job in spec.get("replicatedJobs", ()):
        inner = {"apiVersion": "batch/v1", "kind": "Job", "metadata": manifest["metadata"]}
        check({**inner, "spec": job["template"]["spec"]}, versions)
