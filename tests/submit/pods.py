"""What a cluster of Kubernetes would do with rendered manifests, in network namespaces of Linux.

Each pod is a host of its own. Its container has the manifest's command and variables as they are,
its own processes, a root that is read-only but for what is mounted, and a user without rights. The
resolver knows a pod's name once the pod has started. The image is this machine, with the script.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tfdist.diagnose.namespace_hosts import Hosts

KEPT = "/mnt/kept"
"""Where the claim is mounted: below what is a file system of the pod's own anyway."""

# As root in namespaces of its own: what the image has stays where it is, the rest of /root and /tmp
# is empty; then nothing can be written but /tmp and the claim.
_CONTAINER = f"""
set -e
names=$1 kept=$2 user=$3; shift 3
mount --make-rprivate /
mount --bind "$names" /etc/hosts
mount -t tmpfs -o mode=755 tmpfs /mnt
n=0; for at in $IMAGE; do n=$((n + 1)); mkdir /mnt/$n; mount --bind "$at" /mnt/$n; done
mkdir {KEPT}; mount --bind "$kept" {KEPT}
mount -t tmpfs -o mode=755 tmpfs /root
mount -t tmpfs -o mode=1777 tmpfs /tmp
n=0; for at in $IMAGE; do n=$((n + 1)); mkdir -p "$at"; mount --bind /mnt/$n "$at"; done
mount -o remount,bind,ro /
mount -o remount,ro /root
cd "$WORKDIR"
exec setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs \\
    --bounding-set=-all --inh-caps=-all env -i "$@"
"""


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """A word of a container's command, as Kubernetes gives it to the process."""
    return re.sub(
        r"\$(\$|\((\w+)\))",
        lambda found: "$" if found[1] == "$" else variables.get(found[2], found[0]),
        text,
    )


@dataclass
class Pods:
    """The pods of a job, one after the other in each place.

    Attributes:
        manifests: the job's.
        workdir: the image's working directory, with the script.
        kept: a folder for the claim.
    """

    manifests: Sequence[Mapping[str, Any]]
    workdir: Path
    kept: Path
    hosts: Hosts = field(init=False)
    running: dict[int, subprocess.Popen[str]] = field(default_factory=dict, init=False)
    ended: list[tuple[int, int, str]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        (job,) = (one for one in self.manifests if one["kind"] == "Job")
        (secret,) = (one for one in self.manifests if one["kind"] == "Secret")
        self.spec = job["spec"]
        self.pod = self.spec["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.secrets = secret["stringData"]
        self.name = job["metadata"]["name"]
        self.hosts = Hosts(self.spec["completions"])
        self._names = self.kept.parent / "hosts"
        self._names.write_text("127.0.0.1 localhost\n")

    def __enter__(self) -> Pods:
        self.hosts.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for pod in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pod.pid, signal.SIGKILL)  # its own processes die with it
            pod.communicate()
        self.hosts.__exit__(None, None, None)

    def start(self, index: int) -> None:
        """Starts the pod of an index; from now on its name is known."""
        name = f"{self.name}-{index}.{self.pod['subdomain']}"
        if name not in self._names.read_text():
            with self._names.open("a") as file:
                file.write(f"{self.hosts.addresses[index]} {name}\n")
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        # Of the kubelet, and of the Job's controller.
        given |= {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "JOB_COMPLETION_INDEX": str(index)}
        for one in self.container["env"]:
            source = one.get("valueFrom", {}).get("secretKeyRef")
            value = expanded(one["value"], given) if source is None else self.secrets[source["key"]]
            given[one["name"]] = value
        words = [expanded(word, given) for word in self.container["command"]]
        image = [sys.base_prefix, os.path.realpath(sys.prefix), str(ROOT), str(self.workdir)]
        environ = {**os.environ, "IMAGE": " ".join(image), "WORKDIR": str(self.workdir)}
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        own = [self._names, self.kept, self.pod["securityContext"]["runAsUser"]]
        variables = [f"{key}={value}" for key, value in given.items()]
        command = [*isolated, "sh", "-c", _CONTAINER, "pod", *own, *variables, *words]
        self.running[index] = subprocess.Popen(
            list(map(str, self.hosts.on(index, command))),
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, file: Path, seconds: float = 90) -> None:
        """Waits for a file that a pod makes."""
        deadline = time.monotonic() + seconds
        while not file.exists():
            late = time.monotonic() > deadline
            if late or any(pod.poll() is not None for pod in self.running.values()):
                for pod in self.running.values():
                    pod.kill()
                raise AssertionError([pod.communicate()[0] for pod in self.running.values()])
            time.sleep(0.1)

    def evict(self, index: int) -> None:
        """Asks a pod to end, as the kubelet does: its first process."""
        outer = self.running[index].pid
        (first,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)

    def run(self, seconds: float) -> Iterator[tuple[int, int]]:
        """Replaces pods by the rules of the manifest; yields the index and code of each that ends.

        Returns once all have ended well, or one that is not tried again.
        """
        deadline = time.monotonic() + seconds
        while self.running:
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.1)
            for index, pod in list(self.running.items()):
                if (code := pod.poll()) is None:
                    continue
                del self.running[index]
                self.ended.append((index, code, pod.communicate()[0]))
                yield index, code
                if code and self._action(code) == "FailJob":
                    return
                if code:
                    self.start(index)

    def _action(self, code: int) -> str:
        """What the Job's podFailurePolicy says of an exit code."""
        for rule in self.spec["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes")
            if codes is not None and (code in codes["values"]) == (codes["operator"] == "In"):
                return str(rule["action"])
        return "Count"

    def told(self) -> str:
        """What all pods that have ended have printed."""
        return "\n".join(f"--- {index}: {code}\n{out}" for index, code, out in self.ended)
