"""The pod of a task: its container, what it may use and what it may do.

Sources: Kubernetes' Pod Security Standards ("restricted"); its documentation of termination, of
volumes, and of `$(NAME)` in commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfdist.errors import ClusterError
from tfdist.submit import kubernetes_names as names
from tfdist.submit.yaml_text import Plain

__all__ = ["CONTAINER", "Pod"]

CONTAINER = "node"
"""The container's name, which Kubeflow's trainer asks for."""

_SCRATCH = "/tmp"
_MOUNT, _GPU = "/checkpoints", "nvidia.com/gpu"
_LATER = 15
"""Seconds between the launcher's killing of its task and the killing of the pod."""

_OURS = ("TFDIST_HOSTS", "TFDIST_PS", "TFDIST_CHIEF", "TFDIST_EVALUATOR", "TFDIST_SECRET", "HOME")


@dataclass(frozen=True)
class Pod:
    """What each pod of a job runs, and asks for.

    Attributes:
        image: with the script, tfdist, and Python.
        command: what follows `tfdist run`: options of it, the script, arguments.
        python: the image's Python.
        cpus: processors, as Kubernetes writes them, "4" or "500m"; "" for no limit.
        memory: as "8Gi"; "" for no limit.
        gpus: how many.
        gpu_resource: what they are called.
        claim: a PersistentVolumeClaim for what is to be kept; "" for none.
        mount: where it is.
        user: the number of the user, and the group, that all runs as; not root's.
        grace: seconds from asking the task to end, when it saves, to killing it.
        patience: seconds that tasks wait for each other at the start.
        variables: of the environment, by name.
        node_labels: of the nodes that it may run on.
        pull_secret: the Secret for the image's registry; "" for none.
    """

    image: str
    command: Sequence[str]
    python: str = "python"
    cpus: str = ""
    memory: str = ""
    gpus: int = 0
    gpu_resource: str = _GPU
    claim: str = ""
    mount: str = _MOUNT
    user: int = 1000
    grace: int = 120
    patience: int = 600
    variables: tuple[tuple[str, str], ...] = ()
    node_labels: tuple[tuple[str, str], ...] = ()
    pull_secret: str = ""

    def __post_init__(self) -> None:
        names.check_image(self.image)
        if self.user < 1:
            raise ClusterError(f"--user {self.user}; give the number of a user that is not root")
        if self.cpus:
            names.check_cpus(self.cpus)
        if self.memory:
            names.check_memory("--memory", self.memory)
        names.check_resource("--gpu_resource", self.gpu_resource)
        if self.claim:
            names.check_object("--claim", self.claim)
        if self.pull_secret:
            names.check_object("--pull_secret", self.pull_secret)
        object.__setattr__(self, "mount", names.checked_path("--mount", self.mount))
        if self.mount != _MOUNT and not self.claim:
            raise ClusterError("--mount without a claim; give --storage or --claim")
        if self.gpu_resource != _GPU and not self.gpus:
            raise ClusterError("--gpu_resource without --gpus_per_task; say how many")
        if self.mount == _SCRATCH:
            raise ClusterError(f"--mount {_SCRATCH}, which is for what need not be kept")
        for name, value in self.variables:
            names.check_variable(name)
            if name in _OURS:
                raise ClusterError(f"--env {name}, which the job sets itself; leave it out")
            if "\0" in value:
                raise ClusterError(f"--env {name} with a zero byte, which no variable can hold")
        for key, value in self.node_labels:
            names.check_label("--node_label", key, value)
        for option, pairs in (("--env", self.variables), ("--node_label", self.node_labels)):
            if len(dict(pairs)) < len(pairs):
                raise ClusterError(f"{option} twice for one name; give one of them")
        if any("\0" in word for word in self.command):
            raise ClusterError("a zero byte in the command, which no process can be given")

    @property
    def words(self) -> list[str]:
        """The command of its container, as its process gets it."""
        return [
            *(self.python, "-m", "tfdist", "run"),
            *("--grace", str(self.grace)),
            *("--rendezvous_timeout", str(self.patience)),
            *("--log_dir", f"{_SCRATCH}/tfdist_logs"),
            *(["--threads", str(self._threads)] if self.cpus else []),
            *self.command,
        ]

    @property
    def _threads(self) -> int:
        """The processors that it may use, of perhaps many more on its node."""
        thousandths = self.cpus.endswith("m")
        return max(1, int(float(self.cpus.rstrip("m")) / (1000 if thousandths else 1)))

    def template(
        self,
        labels: Plain,
        variables: Sequence[tuple[str, str]],
        secret: tuple[str, str],
        subdomain: str = "",
    ) -> dict[str, Plain]:
        """Returns a pod's template.

        Args:
            labels: of the pod.
            variables: of the job; the pod's own come after them.
            secret: the variable of the job's secret, and the Secret that has it under that name.
            subdomain: the headless service that knows its name; "" where somebody else sets it.
        """
        variable, name = secret
        given = [("HOME", _SCRATCH), *variables, *self.variables]
        from_secret = {"name": name, "key": variable}
        mounts = {"scratch": _SCRATCH, **({"kept": self.mount} if self.claim else {})}
        container: dict[str, Plain] = {
            "name": CONTAINER,
            "image": self.image,
            "command": [_literally(word) for word in self.words],
            "env": [
                *({"name": one, "value": _literally(value)} for one, value in given),
                {"name": variable, "valueFrom": {"secretKeyRef": from_secret}},
            ],
            **({"resources": {"limits": self._limits()}} if self._limits() else {}),
            "volumeMounts": [{"name": one, "mountPath": path} for one, path in mounts.items()],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
        }
        kept: Plain = {"name": "kept", "persistentVolumeClaim": {"claimName": self.claim}}
        spec: dict[str, Plain] = {
            **({"subdomain": subdomain} if subdomain else {}),
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": self.grace + _LATER,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,  # else a Service called tfdist would set TFDIST_PORT
            **({"nodeSelector": dict(self.node_labels)} if self.node_labels else {}),
            **({"imagePullSecrets": [{"name": self.pull_secret}]} if self.pull_secret else {}),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": self.user,
                "runAsGroup": self.user,
                "fsGroup": self.user,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "scratch", "emptyDir": {}}, *([kept] if self.claim else [])],
        }
        return {"metadata": {"labels": labels}, "spec": spec}

    def _limits(self) -> dict[str, Plain]:
        """What it may use; it asks for as much."""
        return {
            **({"cpu": self.cpus} if self.cpus else {}),
            **({"memory": self.memory} if self.memory else {}),
            **({self.gpu_resource: str(self.gpus)} if self.gpus else {}),
        }


def _literally(text: str) -> str:
    """A text of which Kubernetes takes no `$(NAME)` for a variable's value."""
    return text.replace("$", "$$")
