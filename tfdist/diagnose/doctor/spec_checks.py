"""What can be told from the words alone: the spec, the environment, the secret. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tfdist import process
from tfdist.cluster import Cluster
from tfdist.cluster.address import Address
from tfdist.diagnose.doctor.finding import Finding
from tfdist.environments import ENVIRONMENTS, detect_cluster, scheduler_of, why_not_alone
from tfdist.errors import ClusterError

__all__ = ["environment", "is_of_one_host", "secret", "spec"]

_MOST_HOSTS = 4


def environment(environ: Mapping[str, str], given: bool) -> tuple[Cluster | None, list[Finding]]:
    """Finds the cluster that the environment tells of.

    Args:
        environ: The variables of the process.
        given: Whether the command line has named a spec, which then counts.

    Returns:
        The cluster, where there is one and it is not given; and what there is to say.
    """
    found = [one.name for one in ENVIRONMENTS if one.detect(environ)]
    if given:
        text = f"{' and '.join(found)} found" if found else "nothing found"
        return None, [Finding("good", "environment", f"{text}; the spec given here counts")]
    try:
        cluster = detect_cluster(environ)
    except ClusterError as error:
        todo = "mend the variables, or set TFDIST_ENVIRONMENT to the one that counts"
        return None, [Finding("bad", "environment", str(error), todo)]
    if cluster is None:
        if reason := why_not_alone(environ):
            text, _, todo = reason.partition(": ")
            return None, [Finding("bad", "environment", text, todo)]
        return None, [
            Finding(
                "good",
                "environment",
                "no cluster found (TF_CONFIG, TFDIST_CLUSTER, Slurm, Open MPI, Kubernetes, ...): a "
                "program trains alone on this machine",
            )
        ]
    text = f"{' and '.join(found)} found; {found[0]} counts"
    return cluster, [
        *_disagreement(cluster, found[0], environ),
        Finding("good", "environment", text),
    ]


def _disagreement(cluster: Cluster, name: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    scheduler = scheduler_of(environ)
    if scheduler is None or scheduler.name == name:
        return
    try:
        other = scheduler.cluster(environ)
    except ClusterError:  # it knows too little to disagree
        return
    mine, its = _hosts(cluster), _hosts(other)
    if mine != its or cluster.task is None or len(cluster) != len(other):
        yield Finding(
            "doubtful",
            "environment",
            f"{name} has {len(cluster)} tasks on {_some(mine)}; {scheduler.name} has started "
            f"{len(other)} on {_some(its)}",
            f'say which counts: TFDIST_ENVIRONMENT="{name}" or '
            f'TFDIST_ENVIRONMENT="{scheduler.name}"',
        )


def _hosts(cluster: Cluster) -> list[str]:
    hosts = (Address.parse(cluster.address(task)).host for task in cluster.tasks)
    return sorted(set(hosts))


def _some(hosts: list[str]) -> str:
    more = f", ... ({len(hosts)} hosts)" if len(hosts) > _MOST_HOSTS else ""
    return ", ".join(hosts[:_MOST_HOSTS]) + more


def spec(cluster: Cluster) -> Finding:
    """Says what the job is."""
    jobs = ", ".join(f"{len(at)} {job}" for job, at in cluster.jobs.items())
    own = f"this is {cluster.task}" if cluster.task is not None else "this is none of its tasks"
    return Finding("good", "spec", f"{jobs}, led by {cluster.chief}; {own}")


def secret(cluster: Cluster | None, environ: Mapping[str, str]) -> Finding:
    """Says whether the job has a secret, and whether it needs one."""
    try:
        known = bool(process.secret(environ))
    except ClusterError as error:
        return Finding("bad", "secret", str(error), "mend it; without, nobody can meet this task")
    if known:
        return Finding("good", "secret", "this task has the job's secret")
    if cluster is None or is_of_one_host(cluster):
        return Finding("good", "secret", "none is needed on one machine; `tfdist run` makes one")
    return Finding(
        "doubtful",
        "secret",
        "none: whoever reaches the chief's port can come as a task of this job, or end it",
        "give every task the same TFDIST_SECRET or TFDIST_SECRET_FILE (`openssl rand -hex 32` "
        "makes one)",
    )


def is_of_one_host(cluster: Cluster) -> bool:
    """Whether all tasks are at the loopback, so that no other machine has a part in the job."""
    return all(Address.parse(cluster.address(task)).is_loopback for task in cluster.tasks)
