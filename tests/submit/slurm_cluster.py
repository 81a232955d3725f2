"""A cluster of Slurm's own daemons: nodes are network namespaces, and so is the controller's host.

A job in the partition `urgent` takes the nodes from one in `patient`, the default, at once, and
from one in `warned` after a minute. Either is requeued.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.launch.support import wait_until
from tfdist.diagnose import namespace_hosts

__all__ = ["SlurmCluster", "reason_against", "slurm_cluster"]

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "srun", "setpriv")
_NAMED = 'mount --bind "$0" /etc/hosts && hostname "$1" && shift && exec "$@"'
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost=control({control})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=90
ReturnToService=2
PartitionName=patient Nodes=ALL Default=YES PriorityTier=1
PartitionName=warned Nodes=ALL PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=2
"""
_NODE = "NodeName={name} NodeAddr={address} CPUs=2 RealMemory=4000\n"


def reason_against() -> str:
    """Why there can be no such cluster here; "" where there can."""
    missing = [one for one in _PROGRAMS if shutil.which(one, path=_PATH) is None]
    if missing:
        return f"there is no {missing[0]} here, of Slurm, MUNGE and util-linux"
    return namespace_hosts.reason_against()


class SlurmCluster:
    """Nodes of two cores each.

    Args:
        folder: of its files; NAME.log is what a daemon says.
        hosts: one for each node, and the last for the controller.
    """

    def __init__(self, folder: Path, hosts: namespace_hosts.Hosts) -> None:
        self._folder = folder
        self._hosts = hosts
        self._names = [*(f"node{number}" for number in range(len(hosts.addresses) - 1)), "control"]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Starts the daemons, and waits until all nodes can have jobs."""
        self._write_files()
        of = self._folder
        files = [f"--{one}-file={of / one}" for one in ("key", "pid", "seed")]
        munged = ["munged", "--foreground", "--force", f"--socket={of / 'munge.socket'}", *files]
        self._serve("munged", munged)
        wait_until((of / "munge.socket").exists, 60)
        self._serve("control", self.on("control", ["slurmctld", "-D"]))
        for name in self._names[:-1]:
            self._serve(name, self.on(name, ["slurmd", "-D", "-N", name]))
        try:
            wait_until(lambda: self._states() == {"idle"}, 120)
        except AssertionError:
            logs = [path.read_text()[-2000:] for path in of.glob("*.log")]
            raise AssertionError("\n".join(["some node is not idle", *logs])) from None

    def on(self, name: str, command: Sequence[object]) -> list[object]:
        """The command that runs another one on "control", or on "node0" and so on."""
        named = ["unshare", "--mount", "sh", "-c", _NAMED, self._folder / "hosts", name]
        settings = ["env", f"PATH={_PATH}", f"SLURM_CONF={self._folder / 'slurm.conf'}"]
        return self._hosts.on(self._names.index(name), [*named, *settings, *command])

    def ask(self, *command: object, seconds: float = 60) -> str:
        """Runs one of Slurm's commands to its end; returns what it says."""
        words = [str(word) for word in self.on("control", command)]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def state(self, job: str) -> str:
        """The state of a job, as "RUNNING"."""
        return self.ask("scontrol", "show", "job", job).partition("JobState=")[2].split()[0]

    def start_again(self, job: str, **changes: object) -> None:
        """Starts a job that was requeued, which Slurm would let wait two minutes."""
        wait_until(lambda: self.state(job) == "PENDING" and self._states() == {"idle"}, 180)
        time.sleep(3)  # nodes refuse what is of the second in which they have ended the job
        settings = [f"{name}={value}" for name, value in changes.items()]
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now", *settings)

    def end(self) -> None:
        """Ends the daemons, and all that they have started on the hosts."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        wait_until(self._none_is_left, 60)

    def _none_is_left(self) -> bool:
        left = [pid for host in range(len(self._names)) for pid in self._hosts.processes(host)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def _write_files(self) -> None:
        for name in ("state", *(f"spool.{node}" for node in self._names[:-1])):
            (self._folder / name).mkdir()
        (self._folder / "key").write_bytes(secrets.token_bytes(1024))
        (self._folder / "key").chmod(0o400)
        at = dict(zip(self._names, self._hosts.addresses, strict=True))
        lines = [f"{address} {name}\n" for name, address in at.items()]
        (self._folder / "hosts").write_text("".join(["127.0.0.1 localhost\n", *lines]))
        text = _CONFIGURATION.format(folder=self._folder, control=at.pop("control"))
        nodes = [_NODE.format(name=name, address=address) for name, address in at.items()]
        # A host of namespaces mounts no cgroups, and these look for none unless they are asked to.
        (self._folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (self._folder / "slurm.conf").write_text("".join([*nodes, text]))

    def _serve(self, name: str, command: Sequence[object]) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *(str(word) for word in command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": _PATH},
                start_new_session=True,
            )

    def _states(self) -> set[str]:
        ended = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
        assert not ended, f"{ended} ended at once"
        try:
            return {*self.ask("sinfo", "--noheader", "--Node", "--format=%T").split()}
        except AssertionError:  # the controller has just begun
            return set()


@contextlib.contextmanager
def slurm_cluster(folder: Path, nodes: int) -> Iterator[SlurmCluster]:
    """A cluster, after which neither it nor its jobs are left."""
    with namespace_hosts.Hosts(nodes + 1) as hosts:
        cluster = SlurmCluster(folder, hosts)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.end()
