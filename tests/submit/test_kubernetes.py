"""Manifests are what they were, and what is not understood is refused."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.launch.support import compare_with_golden
from tests.submit.pods import expanded
from tfdist import cli
from tfdist.cluster.secret import Secret
from tfdist.environments import detect_cluster
from tfdist.errors import EXIT_CODES, ClusterError
from tfdist.submit.dockerfile import Dockerfile
from tfdist.submit.kubernetes_job import KINDS, TRIED_AGAIN, KubernetesJob
from tfdist.submit.pod import Pod

IMAGE = ["--image", "registry.example/fit:1", "--name", "fit"]
TWO = ["--workers", "2", "--storage", "10Gi", "train.py", "--epochs", "5"]
SERVERS = [
    *("--kind", "jobset", "--workers", "2", "--ps", "2", "--evaluator", "--namespace", "ml"),
    *("--claim", "runs", "--mount", "/runs/", "--env", "DATA=a: b", "--queue", "team"),
    *("--cpus", "1500m", "--memory", "8Gi", "--pull_secret", "registry", "--max_restarts", "3"),
    *("--grace", "300", "run", "--plug", "-m", "package.module", "two words", "$(HOME)"),
]
PIPELINE = [
    *("--kind", "trainjob", "--workers", "3", "--chief", "--gpus_per_task", "1", "--cpus", "8"),
    *("--node_label", "pool=gpu", "--storage", "1Ti", "--storage_class", "fast.ssd"),
    *("--storage_access", "ReadWriteOnce", "train.py"),
]


@pytest.fixture(autouse=True)
def _a_secret_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfdist.cluster.secret.secrets.token_hex", lambda count: "ab" * count)


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["submit", "kubernetes", "--dry-run", *IMAGE, *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "golden"),
    [(TWO, "job.yaml"), (SERVERS, "jobset.yaml"), (PIPELINE, "trainjob.yaml")],
)
def test_manifests_are_as_they_were(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], golden: str
) -> None:
    compare_with_golden(rendered(capsys, *arguments), golden, Path(__file__).with_name("golden"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("counts", "tasks"),
    [
        ({"workers": 3}, ["worker:0", "worker:1", "worker:2"]),
        (
            {"workers": 1, "ps": 1, "evaluator": True},
            ["chief:0", "worker:0", "ps:0", "evaluator:0"],
        ),
        ({"workers": 2, "chief": True}, ["chief:0", "worker:0", "worker:1"]),
        ({"workers": 1}, None),
    ],
)
def test_each_pod_is_a_task(kind: str, counts: dict[str, Any], tasks: list[str] | None) -> None:
    job = KubernetesJob(Pod("fit:1", ["train.py"]), kind=kind, name="fit", **counts)
    given = dict(variables(pod_of(job)))
    for index in range(job.pods):
        cluster = detect_cluster({**given, "JOB_COMPLETION_INDEX": str(index)})
        if tasks is None:
            assert cluster is None
            continue
        assert cluster is not None
        assert str(cluster.task) == tasks[index]
        if cluster.task in cluster.tasks:  # an evaluator beside servers has no address
            host = {"job": f"fit-{index}.fit"}.get(kind, f"fit-node-0-{index}.fit")
            assert cluster.address(cluster.task) == f"{host}:20000"
    services = [one for one in job.manifests() if one["kind"] == "Service"]
    assert len(services) == int(kind == "job" and tasks is not None)  # a set has its own


def pod_of(job: KubernetesJob) -> Any:
    """The spec of a job's pods."""
    spec: Any = job.manifests()[-2 if job.kind == "trainjob" else -1]["spec"]
    if job.kind == "trainjob":
        spec = spec["template"]["spec"]
    if job.kind != "job":
        spec = spec["replicatedJobs"][0]["template"]["spec"]
    return spec["template"]["spec"]


def variables(pod: Any) -> list[tuple[str, str]]:
    (container,) = pod["containers"]
    return [(one["name"], one["value"]) for one in container["env"] if "value" in one]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_may_do_little(kind: str) -> None:
    """What Kubernetes calls the restricted standard, and more."""
    job = KubernetesJob(Pod("fit:1", ["train.py"], claim="runs"), kind=kind, workers=2)
    pod = pod_of(job)
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    own = pod["securityContext"]
    assert own["runAsNonRoot"] is True
    assert own["runAsUser"] == own["runAsGroup"] == own["fsGroup"] == 1000
    assert own["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    kinds = [next(iter(set(volume) - {"name"})) for volume in pod["volumes"]]
    assert kinds == ["emptyDir", "persistentVolumeClaim"]


def test_exit_codes_say_what_is_tried_again() -> None:
    assert {code for code in EXIT_CODES if code in TRIED_AGAIN} == {69, 75, 130, 143}
    assert 137 in TRIED_AGAIN  # out of memory, or a lost node
    assert list(TRIED_AGAIN) == sorted(set(TRIED_AGAIN))  # as Kubernetes wants them
    job = KubernetesJob(Pod("fit:1", ["train.py"]), workers=2)
    spec: Any = job.manifests()[-1]["spec"]
    disruption, codes = spec["podFailurePolicy"]["rules"]
    assert disruption["action"] == "Ignore"
    assert codes["action"] == "FailJob"
    assert codes["onExitCodes"]["operator"] == "NotIn"
    assert codes["onExitCodes"]["values"] == list(TRIED_AGAIN)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # else no policy is allowed
    assert (codes["onExitCodes"]["containerName"],) == tuple(
        one["name"] for one in spec["template"]["spec"]["containers"]
    )


def test_a_pod_outlives_the_time_of_a_save() -> None:
    job = KubernetesJob(Pod("fit:1", ["train.py"], grace=300))
    pod = pod_of(job)
    words = pod["containers"][0]["command"]
    assert words[words.index("--grace") + 1] == "300"
    assert pod["terminationGracePeriodSeconds"] > 300


@pytest.mark.parametrize("word", ["$(HOME)", "$$(HOME)", "$HOME", "a$", "$$", "a: b\n- c", '"'])
def test_a_word_of_the_command_line_comes_as_it_was(
    capsys: pytest.CaptureFixture[str], word: str
) -> None:
    text = rendered(capsys, "--env", f"WORD={word}", "train.py", word)
    *_, job = yaml.safe_load_all(text)
    container = job["spec"]["template"]["spec"]["containers"][0]
    environ = {"HOME": "/elsewhere"}
    assert expanded(container["command"][-1], environ) == word
    assert expanded(container["env"][-2]["value"], environ) == word


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "no script; give script.py"),
        ("train.py", "no --image; give the name of one"),
        ("--image a/b:1 --kind cron train.py", "--kind 'cron'; it is one of job, jobset, trainjob"),
        ("--image a/b:1 --nodes 2 train.py", "unknown option '--nodes'; did you mean"),
        ("--image 'a b' train.py", "--image 'a b'; give the name of an image"),
        ("--image a --name Fit train.py", "--name 'Fit'; give 1 to 63 small letters"),
        ("--image a --name 1a train.py", "--name '1a'; give 1 to 63 small letters"),
        ("--image a --name 'a\nb' train.py", "--name 'a\\nb'; give 1 to 63 small"),
        (f"--image a --name {'n' * 56} --workers 11 train.py", "would have 65 characters of 63"),
        (f"--image a --name {'n' * 52} --kind jobset train.py", "would have 67 characters of 63"),
        ("--image a --workers 0 --ps 1 train.py", "--workers 0; give 1 or more"),
        ("--image a --workers 1:4 train.py", "'1:4' is not a number of tasks"),
        ("--image a --cpus 0.0 train.py", "--cpus '0.0'; give processors, as 4"),
        ("--image a --cpus 4cores train.py", "--cpus '4cores'; give processors"),
        ("--image a --memory 8 train.py", "--memory '8'; give an amount with its unit, as 512Mi"),
        ("--image a --memory 512m train.py", "--memory '512m'; give an amount with its unit"),
        ("--image a --storage 10 train.py", "--storage '10'; give an amount"),
        ("--image a --storage 1Gi --claim b train.py", "--storage and --claim; give one"),
        ("--image a --storage_class b train.py", "--storage_class without --storage"),
        ("--image a --storage_access ReadWriteOnce train.py", "--storage_access without --stor"),
        ("--image a --mount /runs train.py", "--mount without a claim; give --storage or"),
        ("--image a --gpu_resource amd.com/gpu train.py", "--gpu_resource without --gpus_per"),
        ("--image a --requirements b.txt train.py", "--requirements without --dockerfile"),
        ("--image a --storage 1Gi --storage_access RWX train.py", "--storage_access 'RWX'; it is"),
        ("--image a --mount checkpoints train.py", "--mount 'checkpoints'; give a folder"),
        ("--image a --mount /a/../etc train.py", "--mount '/a/../etc'; give a folder"),
        (
            "--image a --claim b --mount /tmp/ train.py",
            "--mount /tmp, which is for what need not be kept",
        ),
        ("--image a --user 0 train.py", "--user 0; give the number of a user that is not root"),
        ("--image a --env 1A=2 train.py", "--env '1A'; give NAME=VALUE"),
        ("--image a --env A=1 --env A=2 train.py", "--env twice for one name"),
        ("--image a --env TFDIST_PS=2 train.py", "--env TFDIST_PS, which the job sets itself"),
        ("--image a --node_label a train.py", "--node_label 'a'; give it a value"),
        ("--image a --node_label a=b/c train.py", "--node_label 'a=b/c'; give a label"),
        ("--image a --gpu_resource gpu train.py", "--gpu_resource 'gpu'; give one as nvidia.com"),
        ("--image a --queue 'a b' train.py", "--queue 'a b'; give 1 to 63"),
        ("--image a --pull_secret A train.py", "--pull_secret 'A'; give the name of an object"),
        ("--image a run --workers 2 train.py", "run --workers; a pod is one task of the job"),
        ("--image a run --grace=9 train.py", "run --grace; a pod is one task of the job"),
        ("--image a run --log-dir=9 train.py", "run --log_dir; a pod is one task of the job"),
        ("--image a run --env A=1 train.py", "run --env; a pod is one task of the job"),
        ("--image a run --hosts a,b train.py", "run --hosts; a pod is one task of the job"),
        ("--image a run --plugg train.py", "unknown option '--plugg'; did you mean '--plug'?"),
        ("--image a run --threads x train.py", "'x' is not a number of threads"),
        ("--image a run", "no script; give script.py"),
        ("--dockerfile train.py", "--dockerfile with the script train.py"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    assert cli.main(["submit", "kubernetes", "--dry_run", *shlex.split(arguments)]) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_a_job_has_a_secret() -> None:
    with pytest.raises(ClusterError, match="no secret"):
        KubernetesJob(Pod("fit:1", ["train.py"]), Secret())
    with pytest.raises(ClusterError, match="zero byte in the command"):
        Pod("fit:1", ["a\0b"])
    with pytest.raises(ClusterError, match="--env A with a zero byte"):
        Pod("fit:1", [], variables=(("A", "\0"),))


def test_the_dockerfile_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    packages = ["tensorflow[and-cuda]==2.21.0", "keras==3.15.1"]
    text = Dockerfile("3.12", packages, "tfdist==1.0", "requirements.txt").text()
    compare_with_golden(text, "Dockerfile", Path(__file__).with_name("golden"))
    assert "COPY needs/base.txt needs/base.txt" in Dockerfile("3", [], "", "needs/base.txt").text()
    for path in ("/needs.txt", "../needs.txt", "my needs.txt"):
        with pytest.raises(ClusterError, match="give a path from there"):
            Dockerfile("3.12", [], "tfdist", path)
    assert cli.main(["submit", "kubernetes", "--dockerfile"]) == 0
    told = capsys.readouterr().out
    assert "RUN python -m pip install --no-cache-dir" in told
    assert "USER 1000:1000" in told
