"""A cluster of Kubernetes, by its own command `kubectl`: a job is handed in, and followed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tfdist.errors import ClusterError, LaunchError
from tfdist.submit.kubernetes_job import LABEL, TRIED_AGAIN, KubernetesJob
from tfdist.submit.pod import CONTAINER

__all__ = ["Followed", "Kubectl"]

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0
_INDEX = "batch.kubernetes.io/job-completion-index"
_RESOURCES = {
    "Secret": "secrets",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "NetworkPolicy": "networkpolicies.networking.k8s.io",
    "Service": "services",
    "Job": "jobs.batch",
    "JobSet": "jobsets.jobset.x-k8s.io",
    "TrainingRuntime": "trainingruntimes.trainer.kubeflow.org",
    "TrainJob": "trainjobs.trainer.kubeflow.org",
}
_KEPT = ("PersistentVolumeClaim",)
_ALL = -1
_AT_WORK = {"", "ContainerCreating", "PodInitializing"}


@dataclass(frozen=True)
class _PodState:
    """What Kubernetes tells of a pod.

    Attributes:
        name: of it.
        created: when, as text that sorts.
        index: which task it is.
        phase: Pending, Running, Succeeded, Failed or Unknown.
        code: the exit code of its task; None before it has ended.
        ended: when it did, as text that sorts.
        waits: what it waits for, in Kubernetes' words; "" where nothing is odd.
    """

    name: str
    created: str
    index: int
    phase: str
    code: int | None
    ended: str
    waits: str


@dataclass(frozen=True)
class Followed:
    """How a job has ended.

    Attributes:
        well: whether all its tasks did.
        why: in Kubernetes' words.
        code: the exit code of the task that has ended the job; 0 where all did well.
    """

    well: bool
    why: str
    code: int


@dataclass(frozen=True)
class Kubectl:
    """A job in a cluster.

    Attributes:
        kind: of the job, see `kubernetes_job.KINDS`.
        name: of the job.
        namespace: "" for kubectl's own.
    """

    kind: str
    name: str
    namespace: str = ""

    def submit(self, job: KubernetesJob) -> None:
        """Hands a job in.

        Raises:
            ClusterError: a job of that name is there already, or something else that is not ours.
            LaunchError: there is no kubectl here, or the cluster refuses something.
        """
        kinds = {str(manifest["kind"]) for manifest in job.manifests()}
        for found in self._found(",".join(_RESOURCES[kind] for kind in sorted(kinds))):
            kind = _text(found, "kind")
            if kind.lower() == self.kind:
                raise ClusterError(
                    f"{self.kind} {self.name}, which is there already; give another --name, or "
                    f"delete it first: {self.deletion}"
                )
            if _text(found, "metadata", "labels", LABEL) != self.name:
                raise ClusterError(
                    f"{kind} {self.name}, which is there already and is of no job of tfdist; give "
                    "another --name" + (", or --claim" if kind in _KEPT else "")
                )
        if list(self._items("pods", f"--selector={LABEL}={self.name}")):
            raise ClusterError(
                f"pods of a job {self.name} that was deleted, and that have not ended; wait for "
                "their end, or give another --name"
            )
        try:
            self._ask("apply", "-f", "-", given=job.text())
        except LaunchError as error:
            raise LaunchError(f"{error}; what deletes the rest: {self.deletion}") from None

    @property
    def deletion(self) -> str:
        """The command that deletes a job, but for what it has kept."""
        own = {"job": "job,service", "jobset": "jobset", "trainjob": "trainjob,trainingruntime"}
        what = f"{own[self.kind]},networkpolicy,secret"
        return " ".join([*self._command("delete", what), "-l", f"{LABEL}={self.name}"])

    def follow(self, write: Callable[[str], None], say: Callable[[str], None]) -> Followed:
        """Shows what the job's first task prints, until the job has ended.

        A cluster that does not answer for some minutes is borne.

        Args:
            write: takes what the task prints, as it comes.
            say: takes a line on what pods wait for.

        Returns:
            How it has ended.

        Raises:
            LaunchError: Kubernetes did not tell of the job for too long; it may go on.
        """
        shown: dict[str, int] = {}  # lines of each pod's log
        told: dict[str, str] = {}
        heard = time.monotonic()
        while True:
            try:
                end, pods = self._end(), self._pods()
            except LaunchError as error:
                if time.monotonic() - heard > _PATIENCE_SECONDS:
                    raise LaunchError(
                        f"{self.kind} {self.name} is not followed any more, and may go on: {error}"
                    ) from None
                time.sleep(_LOOK_SECONDS)
                continue
            heard = time.monotonic()
            for pod in pods:
                if pod.waits and pod.waits != told.get(pod.name):
                    say(f"{pod.name} waits: {pod.waits}")
                    told[pod.name] = pod.waits
            for pod in pods:
                began = pod.phase in ("Running", "Succeeded", "Failed")
                if pod.index == 0 and began and shown.get(pod.name) != _ALL:
                    self._show(pod, shown, write)
            if end is not None:
                well, why = end
                return Followed(well, why, 0 if well else _code_of(pods))
            time.sleep(_LOOK_SECONDS)

    def _show(self, pod: _PodState, shown: dict[str, int], write: Callable[[str], None]) -> None:
        """Shows what a pod prints, and goes on where it was if the connection does not last."""
        already = shown.get(pod.name, 0)
        command = self._command("logs", "--follow", f"--container={CONTAINER}", pod.name)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as reading:
            assert reading.stdout is not None
            try:
                for number, line in enumerate(reading.stdout):
                    if number >= already:
                        write(line.decode(errors="replace"))
                        shown[pod.name] = number + 1
            except BaseException:
                reading.kill()
                raise
        if reading.returncode == 0 and pod.phase != "Running":
            shown[pod.name] = _ALL

    def _end(self) -> tuple[bool, str] | None:
        """How the job has ended: whether well, and why; None while it goes on."""
        kind = next(kind for kind in _RESOURCES if kind.lower() == self.kind)
        found = list(self._found(_RESOURCES[kind]))
        if not found:
            return False, "somebody has deleted it"
        for condition in _list(found[0], "status", "conditions"):
            if _text(condition, "status") == "True":
                state = _text(condition, "type")
                if state in ("Complete", "Completed", "Failed"):
                    return state != "Failed", _reason(condition)
        return None

    def _pods(self) -> list[_PodState]:
        """The pods of the job that there are, in the order in which they were made."""
        found = map(_read_pod, self._items("pods", f"--selector={LABEL}={self.name}"))
        return sorted(found, key=lambda pod: pod.created)

    def _found(self, resources: str) -> Iterator[object]:
        """What there is of the job's name."""
        return self._items(resources, self.name, "--ignore-not-found")

    def _items(self, *words: str) -> Iterator[object]:
        told = self._ask("get", *words, "-o=json").strip()
        try:
            found: object = json.loads(told) if told else {"items": []}
        except ValueError:
            raise LaunchError(f"kubectl get: {told[:80]!r}, where JSON was expected") from None
        return iter([found]) if _at(found, "items") is None else _list(found, "items")

    def _command(self, *words: str) -> list[str]:
        where = [f"--namespace={self.namespace}"] if self.namespace else []
        return ["kubectl", words[0], *where, *words[1:]]

    def _ask(self, *words: str, given: str = "") -> str:
        try:
            ran = subprocess.run(
                self._command(*words), input=given, capture_output=True, encoding="utf-8",
                errors="replace", check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise LaunchError(
                "there is no kubectl here: install it, or take the manifests of --dry_run to where "
                "it is, and hand them in by `kubectl apply -f -`"
            ) from None
        if ran.returncode:
            said = " ".join((ran.stderr or ran.stdout).split())
            raise LaunchError(f"kubectl {words[0]}: {said}")
        return ran.stdout


def _code_of(pods: list[_PodState]) -> int:
    """The exit code of the task that has ended a job: a fault of its own before what came of it."""
    failed = [(pod.ended, pod.code) for pod in pods if pod.code]
    own = [one for one in failed if one[1] not in TRIED_AGAIN]
    ended = min(own) if own else max(failed, default=("", LaunchError.exit_code))
    return int(ended[1] or LaunchError.exit_code)


def _read_pod(pod: object) -> _PodState:
    statuses = _list(pod, "status", "containerStatuses")
    status = next((one for one in statuses if _text(one, "name") == CONTAINER), {})
    code = _at(status, "state", "terminated", "exitCode")
    index = _text(pod, "metadata", "annotations", _INDEX)
    return _PodState(
        _text(pod, "metadata", "name"),
        _text(pod, "metadata", "creationTimestamp"),
        int(index) if index.isdigit() else -1,
        _text(pod, "status", "phase"),
        code if isinstance(code, int) else None,
        _text(status, "state", "terminated", "finishedAt"),
        _why_it_waits(pod, status),
    )


def _why_it_waits(pod: object, status: object) -> str:
    """What is odd about a pod that does not run yet: no node for it, or no image."""
    waiting = _at(status, "state", "waiting")
    if _text(waiting, "reason") not in _AT_WORK:
        return _reason(waiting)
    for condition in _list(pod, "status", "conditions"):
        if (_text(condition, "type"), _text(condition, "status")) == ("PodScheduled", "False"):
            return _reason(condition)
    return ""


def _reason(data: object) -> str:
    return ": ".join(filter(None, (_text(data, "reason"), _text(data, "message"))))


def _at(data: object, *keys: str) -> object:
    """What is in nested mappings of JSON; None where a key is not there."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _text(data: object, *keys: str) -> str:
    found = _at(data, *keys)
    return found if isinstance(found, str) else ""


def _list(data: object, *keys: str) -> Iterator[object]:
    found = _at(data, *keys)
    return iter(found if isinstance(found, list) else [])
