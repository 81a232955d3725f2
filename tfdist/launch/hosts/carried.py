"""Which environment variables the tasks on other hosts get of the launcher's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfdist import process
from tfdist.errors import ClusterError
from tfdist.progress.teller import PIPE_VARIABLE, WISH_VARIABLE

__all__ = ["PREFIXES", "carried", "told_of_host", "wished"]

PREFIXES = (
    "TF_", "TFDIST_", "KERAS_", "XLA_", "GRPC_", "NCCL_", "OMP_", "KMP_", "MKL_", "PYTHON"
)  # fmt: skip
"""Variables whose names begin so go along; those of a host's own are kept where the launcher has
none of the name."""

# What says who a process is, or belongs to this machine or to this process alone.
_OWN = frozenset(
    {
        "TF_CONFIG",
        "TFDIST_CLUSTER",
        "TFDIST_ENVIRONMENT",
        "TFDIST_HOSTS",
        "TFDIST_JOB",
        "TFDIST_LAUNCHED",
        WISH_VARIABLE,
        PIPE_VARIABLE,
        "TFDIST_RANK",
        "TFDIST_SAVES",
        process.COORDINATOR_VARIABLE,
        process.SECURE_VARIABLE,
        "TFDIST_SSH",
        "TFDIST_TASK",
        process.SECRET_VARIABLE,
        f"{process.SECRET_VARIABLE}_FILE",
        "PYTHONHOME",
    }
)


def told_of_host(environ: Mapping[str, str]) -> dict[str, str]:
    """What a host tells of its own variables, on which depends what its tasks are given.

    Args:
        environ: All of them.
    """
    secret = process.SECRET_VARIABLE
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIXES) and not name.startswith(secret)
    }


def carried(environ: Mapping[str, str], extra: Sequence[str] = ()) -> dict[str, str]:
    """The variables that go along, but for the job's secret.

    Args:
        environ: The launcher's.
        extra: Others, as "NAME" or "NAME=value".

    Raises:
        ClusterError: One of these is not set.
    """
    found = {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIXES) and name not in _OWN
    }
    for one in extra:
        name, given, value = one.partition("=")
        if not name or (not given and name not in environ):
            raise ClusterError(f"--env {one}, which is not set here; give NAME=VALUE")
        found[name] = value if given else environ[name]
    return found


def wished(environ: Mapping[str, str]) -> dict[str, str]:
    """What tasks are to tell of their progress, as a job sets it for all.

    Args:
        environ: The variables of its tasks.
    """
    return {name: environ[name] for name in (WISH_VARIABLE,) if name in environ}
