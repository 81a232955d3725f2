"""The manifests of a job of Kubernetes: pure data.

    Secret          what the tasks prove to each other to know
    NetworkPolicy   lets the job's own pods reach its ports, and nobody else
    Service         the pods' names                          (a JobSet makes its own)
    Job, JobSet, or TrainingRuntime and TrainJob             a pod for each task, by its index

Which pod is which task, tfdist reads from TFDIST_HOSTS and JOB_COMPLETION_INDEX. How a pod ends
says whether its task is tried again: by `podFailurePolicy`, in the exit codes of tfdist.

Sources: Kubernetes' documentation of indexed Jobs, pod failure policies, back-off limits for an
index (Kubernetes 1.29), headless services and network policies; JobSet's of its API v1alpha2;
Kubeflow Trainer's of its runtimes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfdist.cluster.secret import Secret
from tfdist.environments.ranks import DEFAULT_PORT
from tfdist.errors import ClusterError, Preempted, RendezvousTimeout
from tfdist.process import SECRET_VARIABLE
from tfdist.submit import kubernetes_names as names
from tfdist.submit.pod import CONTAINER, Pod
from tfdist.submit.yaml_text import Plain, yaml_text

__all__ = ["KINDS", "LABEL", "TRIED_AGAIN", "KubernetesJob"]

KINDS = ("job", "jobset", "trainjob")
"""What a job can be: Kubernetes' own indexed Job, a JobSet, a TrainJob of Kubeflow Trainer 2."""

LABEL = "tfdist/job"
"""The label of all that belongs to a job, its name; one that nobody else gives to what is his."""

_SIGNALS = (1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 15)  # Linux' numbers, HUP to TERM

TRIED_AGAIN = (
    RendezvousTimeout.exit_code,
    Preempted.exit_code,
    *(128 + number for number in _SIGNALS),
)
"""The exit codes after which a task is started again: 69, 75, and those of signals; in order."""

_JOB_SETS = "jobset.x-k8s.io/v1alpha2"
_TRAINER = "trainer.kubeflow.org"
_RANDOM = len("-abcde")  # at the end of a pod's name
_ACCESS = ("ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


@dataclass(frozen=True)
class KubernetesJob:
    """A job of some pods.

    Attributes:
        pod: what each of them runs.
        secret: the job's.
        kind: one of `KINDS`.
        name: of the job and all that belongs to it.
        namespace: "" for that of who submits it.
        workers, ps, chief, evaluator: how many tasks of each; a ps brings a chief with it.
        restarts: how often each task of a Job, or all of a JobSet or TrainJob, is started again.
        storage: the size of a new claim of the job's name, as "10Gi"; "" for none.
        storage_class: of that claim; "" for the cluster's default.
        storage_access: who may use it at once.
        queue: of Kueue, which starts all pods or none; "" for none.
    """

    pod: Pod
    secret: Secret = field(default_factory=Secret.random)
    kind: str = "job"
    name: str = "tfdist"
    namespace: str = ""
    workers: int = 1
    ps: int = 0
    chief: bool = False
    evaluator: bool = False
    restarts: int = 10
    storage: str = ""
    storage_class: str = ""
    storage_access: str = _ACCESS[0]
    queue: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ClusterError(f"--kind {self.kind!r}; it is one of {', '.join(KINDS)}")
        if self.workers < 1:
            raise ClusterError(f"--workers {self.workers}; give 1 or more")
        names.check_name("--name", self.name)
        for option, name in (("--namespace", self.namespace), ("--queue", self.queue)):
            if name:
                names.check_name(option, name)
        longest = len(f"{self._host}{self.pods - 1}") + _RANDOM
        if longest > names.LONGEST_LABEL:
            raise ClusterError(
                f"--name {self.name} is too long: its pods' names would have {longest} characters "
                f"of {names.LONGEST_LABEL}; take {longest - names.LONGEST_LABEL} away"
            )
        if self.storage:
            names.check_memory("--storage", self.storage)
            if self.pod.claim != self.name:
                raise ClusterError("--storage and --claim; give one: a new claim, or one there is")
        others = {
            "--storage_class": self.storage_class != "",
            "--storage_access": self.storage_access != _ACCESS[0],
        }
        for option, is_given in others.items():
            if is_given and not self.storage:
                raise ClusterError(f"{option} without --storage; give the size of the new claim")
        if self.storage_class:
            names.check_object("--storage_class", self.storage_class)
        if self.storage_access not in _ACCESS:
            raise ClusterError(
                f"--storage_access {self.storage_access!r}; it is one of {', '.join(_ACCESS)}"
            )
        if not self.secret:
            raise ClusterError("no secret; a job over several pods needs one")

    @property
    def pods(self) -> int:
        """How many there are."""
        return self.workers + self.ps + int(self.chief or self.ps > 0) + int(self.evaluator)

    @property
    def hosts(self) -> str:
        """Their names, as the other tasks reach them; "" where there is one alone."""
        several = f"{self._host}[0-{self.pods - 1}].{self.name}"
        return several if self.pods > 1 else ""

    @property
    def _host(self) -> str:
        """The name of a pod, but for its index."""
        return f"{self.name}-" if self.kind == "job" else f"{self.name}-{CONTAINER}-0-"

    def manifests(self) -> tuple[dict[str, Plain], ...]:
        """Returns its objects, each of them after those that it needs."""
        several = self.pods > 1
        starts = {"job": self._job, "jobset": self._jobset, "trainjob": self._trainjob}
        return (
            self._secret(),
            *([self._claim()] if self.storage else []),
            self._network_policy(),
            *([self._service()] if several and self.kind == "job" else []),
            *starts[self.kind](),
        )

    def text(self) -> str:
        """Returns its objects as documents of YAML."""
        return "---\n".join(yaml_text(one, _comment(one)) for one in self.manifests())

    def _object(self, api: str, kind: str, **spec: Plain) -> dict[str, Plain]:
        labels = {"app.kubernetes.io/managed-by": "tfdist", LABEL: self.name}
        starts = kind.lower() == self.kind
        if self.queue and starts:
            labels["kueue.x-k8s.io/queue-name"] = self.queue
        if kind == "TrainingRuntime":
            labels[f"{_TRAINER}/framework"] = "tensorflow"
        where: dict[str, Plain] = {"namespace": self.namespace} if self.namespace else {}
        metadata: Plain = {"name": self.name, **where, "labels": labels}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **spec}

    def _secret(self) -> dict[str, Plain]:
        return self._object(
            "v1", "Secret", type="Opaque", stringData={SECRET_VARIABLE: self.secret.word}
        )

    def _claim(self) -> dict[str, Plain]:
        spec: dict[str, Plain] = {
            "accessModes": [self.storage_access],
            **({"storageClassName": self.storage_class} if self.storage_class else {}),
            "resources": {"requests": {"storage": self.storage}},
        }
        return self._object("v1", "PersistentVolumeClaim", spec=spec)

    def _network_policy(self) -> dict[str, Plain]:
        own: Plain = {"matchLabels": {LABEL: self.name}}
        spec: Plain = {
            "podSelector": own,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": own}]}],
        }
        return self._object("networking.k8s.io/v1", "NetworkPolicy", spec=spec)

    def _service(self) -> dict[str, Plain]:
        spec: Plain = {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they meet before any of them works
            "selector": {LABEL: self.name},
            "ports": [{"name": "tasks", "port": DEFAULT_PORT}],
        }
        return self._object("v1", "Service", spec=spec)

    def _job(self) -> Sequence[dict[str, Plain]]:
        # Each task may fail so often by itself: the loss of one fails all of them once.
        limits: Mapping[str, Plain] = {
            "backoffLimitPerIndex": self.restarts,
            "maxFailedIndexes": 0,
        }
        return [self._object("batch/v1", "Job", spec=self._job_spec(limits, self.name))]

    def _jobset(self) -> Sequence[dict[str, Plain]]:
        return [self._object(_JOB_SETS, "JobSet", spec=self._set_spec({}))]

    def _trainjob(self) -> Sequence[dict[str, Plain]]:
        api = f"{_TRAINER}/v1alpha1"
        template: Plain = {
            "spec": self._set_spec({f"{_TRAINER}/trainjob-ancestor-step": "trainer"})
        }
        runtime: Plain = {"mlPolicy": {"numNodes": self.pods}, "template": template}
        of_runtime: Plain = {
            "apiGroup": _TRAINER,
            "kind": "TrainingRuntime",
            "name": self.name,
        }
        spec: Plain = {"runtimeRef": of_runtime, "trainer": {"numNodes": self.pods}}
        return [
            self._object(api, "TrainingRuntime", spec=runtime),
            self._object(api, "TrainJob", spec=spec),
        ]

    def _set_spec(self, labels: Mapping[str, str]) -> dict[str, Plain]:
        """A set of one job: the first failure of a pod starts all again, at once."""
        metadata: dict[str, Plain] = {"metadata": {"labels": labels}} if labels else {}
        template: Plain = {**metadata, "spec": self._job_spec({"backoffLimit": 0}, "")}
        # A fault of the program would come again.
        fault: Plain = {
            "name": "fault",
            "action": "FailJobSet",
            "onJobFailureReasons": ["PodFailurePolicy"],
        }
        return {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {"maxRestarts": self.restarts, "rules": [fault]},
            "replicatedJobs": [{"name": CONTAINER, "replicas": 1, "template": template}],
        }

    def _job_spec(self, limits: Mapping[str, Plain], subdomain: str) -> dict[str, Plain]:
        roles = (("PS", self.ps), ("CHIEF", self.chief), ("EVALUATOR", self.evaluator))
        variables = [
            *([("TFDIST_HOSTS", self.hosts)] if self.hosts else []),
            *((f"TFDIST_{role}", str(int(count))) for role, count in roles if count),
        ]
        disruption: Plain = {"type": "DisruptionTarget", "status": "True"}
        codes: Plain = {
            "containerName": CONTAINER,
            "operator": "NotIn",
            "values": list(TRIED_AGAIN),
        }
        policy: Plain = [
            # A node is drained, or wanted for something else: no fault, and not counted.
            {"action": "Ignore", "onPodConditions": [disruption]},
            {"action": "FailJob", "onExitCodes": codes},
        ]
        return {
            "completionMode": "Indexed",
            "completions": self.pods,
            "parallelism": self.pods,
            **limits,
            "podFailurePolicy": {"rules": policy},
            "template": self.pod.template(
                {LABEL: self.name},
                variables,
                (SECRET_VARIABLE, self.name),
                subdomain if self.hosts else "",
            ),
        }


def _comment(manifest: Mapping[str, Plain]) -> str:
    """Why a job has such an object; "" where its kind says so."""
    return {
        "Secret": "What the tasks prove to each other to know: of this job alone.",
        "PersistentVolumeClaim": "What is kept when the job has ended, and is deleted.",
        "NetworkPolicy": "The job's own pods reach its ports, and nobody else.",
        "Service": "The pods' names.",
        "TrainingRuntime": "How a node of the TrainJob runs.",
    }.get(str(manifest["kind"]), "")
