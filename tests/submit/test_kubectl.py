"""A job is handed in by kubectl, and followed to its end. The kubectl is a small script."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfdist import cli
from tfdist.errors import LaunchError
from tfdist.submit.kubernetes_job import KINDS

DELETION = "kubectl delete job,service,networkpolicy,secret -l tfdist/job=fit"

# Each look at the job is one step further; what it finds lies in files of that number.
KUBECTL = """#!/bin/sh
echo "$@" >> calls
case "$*" in
*secrets*) cat there 2>/dev/null; exit 0 ;;
apply*) cat > applied.yaml; [ ! -e refuses ] || { echo no >&2; exit 1; } ;;
logs*) for pod; do :; done; cat "$pod.log"; exit 0 ;;
*" pods "*) [ -e applied.yaml ] || { cat before 2>/dev/null; exit 0; }
            n=$(wc -l < looks); [ -e $n.pods ] || n=last; cat $n.pods ;;
get*) echo >> looks; n=$(wc -l < looks); [ -e $n.trouble ] && { echo no route >&2; exit 1; }
      [ -e $n.job ] || n=last; cat $n.job ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("tfdist.submit.kubectl._LOOK_SECONDS", 0.01)
    return tmp_path


def step(
    cluster: Path, name: object, condition: tuple[str, str] | None, pods: Sequence[dict[str, Any]]
) -> None:
    """What the cluster tells at one look."""
    conditions = [{"type": "Suspended", "status": "False"}]
    if condition is not None:
        kind, message = condition
        told = {"type": kind, "status": "True", "reason": "Why", "message": message}
        conditions.append(told)
    (cluster / f"{name}.job").write_text(json.dumps({"status": {"conditions": conditions}}))
    (cluster / f"{name}.pods").write_text(json.dumps({"items": pods}))


def pod(
    index: int, number: int, phase: str, code: int | None = None, waits: str = ""
) -> dict[str, Any]:
    """A pod as Kubernetes tells of it: the `number`th that there was, on the whole."""
    state: dict[str, Any] = {"running": {}} if phase == "Running" else {}
    if code is not None:
        ended = f"2026-01-01T00:01:{number:02}Z"
        state = {"terminated": {"exitCode": code, "finishedAt": ended}}
    if waits:
        state = {"waiting": {"reason": waits, "message": "no such image"}}
    return {
        "metadata": {
            "name": f"fit-{index}-{number}",
            "creationTimestamp": f"2026-01-01T00:00:{number:02}Z",
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        },
        "status": {"phase": phase, "containerStatuses": [{"name": "node", "state": state}]},
    }


def submit(*more: str) -> int:
    options = ["--image", "a/b:1", "--name", "fit", "--workers", "2", *more]
    return cli.main(["submit", "kubernetes", *options, "train.py"])


def test_a_job_is_followed_over_its_restart_to_its_end(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [pod(0, 1, "Pending", waits="ImagePullBackOff"), pod(1, 2, "Pending")]
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    first[1]["status"] |= {"containerStatuses": [], "conditions": [unplaced]}
    step(cluster, 1, None, first)
    (cluster / "2.trouble").touch()  # a cluster that does not answer is borne
    step(cluster, 3, None, first)
    step(cluster, 4, None, [pod(0, 1, "Running"), pod(1, 2, "Running")])
    lost = [pod(0, 1, "Failed", 75), pod(1, 2, "Failed", 137)]
    step(cluster, 5, None, lost)
    step(cluster, 6, None, [*lost, pod(0, 3, "Running"), pod(1, 4, "Running")])
    well = [*lost, pod(0, 3, "Succeeded", 0), pod(1, 4, "Succeeded", 0)]
    step(cluster, "last", ("Complete", ""), well)
    (cluster / "fit-0-1.log").write_bytes(b"one\n\xff two\n")
    (cluster / "fit-0-3.log").write_text("three\nand no end")
    assert submit("--storage", "1Gi") == 0
    assert capsys.readouterr().out.splitlines() == [
        "[tfdist] job fit of 2 pods is handed in; what ends it: " + DELETION,
        "[tfdist] fit-0-1 waits: ImagePullBackOff: no such image",
        "[tfdist] fit-1-2 waits: Unschedulable",
        "one",
        "\ufffd two",
        "three",
        "and no end[tfdist] job fit has ended: Why, exit code 0",
    ]
    kinds = [one["kind"] for one in yaml.safe_load_all((cluster / "applied.yaml").read_text())]
    assert kinds == ["Secret", "PersistentVolumeClaim", "NetworkPolicy", "Service", "Job"]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([75, 64, 143], 64),  # the fault, and not what came of it
        ([69, 75], 75),  # the last of what was tried again for too long
        ([3, 1], 3),  # the first
        ([], 1),
        ([0], 1),
    ],
)
def test_a_job_that_fails_ends_with_the_code_of_its_task(
    cluster: Path, capsys: pytest.CaptureFixture[str], codes: Sequence[int], expected: int
) -> None:
    pods = [pod(1, n, "Failed" if code else "Succeeded", code) for n, code in enumerate(codes)]
    step(cluster, "last", ("Failed", "so it is"), pods)
    assert submit("--namespace", "ml") == expected
    out = capsys.readouterr().out
    assert f"[tfdist] job fit has ended: Why: so it is, exit code {expected}\n" in out
    assert "[tfdist] no --storage and no --claim: what its pods write is lost with them" in out
    calls = (cluster / "calls").read_text().splitlines()
    assert all(call.split()[1] == "--namespace=ml" for call in calls)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_asked_for_by_its_name(
    cluster: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    step(cluster, "last", ("Completed" if kind == "jobset" else "Complete", ""), [])
    assert submit("--kind", kind) == 0
    resource = {"jobset": "jobsets.jobset.x-k8s.io", "trainjob": "trainjobs.trainer.kubeflow.org"}
    asked = f"get {resource.get(kind, 'jobs.batch')} fit --ignore-not-found -o=json"
    assert asked in (cluster / "calls").read_text().splitlines()
    assert f"what ends it: kubectl delete {kind}" in capsys.readouterr().out


OURS = {"name": "fit", "labels": {"tfdist/job": "fit"}}


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (
            {"kind": "Job", "metadata": OURS},
            f"job fit, which is there already; give another --name, or delete it first: {DELETION}",
        ),
        (
            {"kind": "List", "items": [{"kind": "Secret", "metadata": {"name": "fit"}}]},
            "Secret fit, which is there already and is of no job of tfdist; give another --name",
        ),
        (
            {"kind": "PersistentVolumeClaim", "metadata": {"name": "fit", "labels": {"a": "b"}}},
            "is of no job of tfdist; give another --name, or --claim",
        ),
    ],
)
def test_what_is_there_is_not_touched(
    cluster: Path, capsys: pytest.CaptureFixture[str], there: dict[str, Any], says: str
) -> None:
    (cluster / "there").write_text(json.dumps(there))
    assert submit("--storage", "1Gi") == 64
    assert says in capsys.readouterr().err
    assert not (cluster / "applied.yaml").exists()


def test_pods_of_a_job_that_was_deleted_may_end_first(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cluster / "before").write_text(json.dumps({"items": [pod(0, 1, "Running")]}))
    assert submit() == 64
    assert "pods of a job fit that was deleted, and that have not ended" in capsys.readouterr().err
    assert not (cluster / "applied.yaml").exists()


def test_what_a_job_has_left_is_taken_over(cluster: Path) -> None:
    left = {"kind": "List", "items": [{"kind": "PersistentVolumeClaim", "metadata": OURS}]}
    (cluster / "there").write_text(json.dumps(left))
    assert submit("--storage", "1Gi", "--detach") == 0
    assert (cluster / "applied.yaml").exists()


def test_a_job_that_somebody_deletes_has_ended(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cluster / "last.job").write_text("")
    (cluster / "last.pods").write_text('{"items": []}')
    assert submit() == 1
    assert "job fit has ended: somebody has deleted it, exit code 1" in capsys.readouterr().out


def test_a_job_may_be_left_alone(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--detach") == 0
    assert not (cluster / "looks").exists()
    assert capsys.readouterr().err == ""


def test_what_the_cluster_refuses_is_told(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cluster / "refuses").touch()
    assert submit() == LaunchError.exit_code
    err = capsys.readouterr().err
    assert f"tfdist: kubectl apply: no; what deletes the rest: {DELETION}\n" == err


def test_a_cluster_that_is_silent_for_long_is_left(
    cluster: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfdist.submit.kubectl._PATIENCE_SECONDS", 0.0)
    (cluster / "1.trouble").touch()
    assert submit() == LaunchError.exit_code
    said = "job fit is not followed any more, and may go on: kubectl get: no route"
    assert said in capsys.readouterr().err


def test_without_kubectl_the_advice_can_be_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submit() == LaunchError.exit_code
    assert "hand them in by `kubectl apply -f -`" in capsys.readouterr().err


def test_ctrl_c_leaves_the_job_alone(
    cluster: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tfdist.submit.kubernetes_command.write", interrupted)
    step(cluster, "last", None, [pod(0, 1, "Running")])
    (cluster / "fit-0-1.log").write_text("one\n")
    assert submit() == 130
    assert capsys.readouterr().out.endswith("[tfdist] job fit goes on\n")


def test_what_is_no_json_is_told(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cluster / "there").write_text("hello")
    assert submit() == LaunchError.exit_code
    assert "kubectl get: 'hello', where JSON was expected" in capsys.readouterr().err


def test_the_schedulers_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "--help"]) == 0
    out = capsys.readouterr().out
    assert "  slurm " in out
    assert "  kubernetes " in out
