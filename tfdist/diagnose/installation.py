"""What is installed here, on what, and which variables matter: all that a report of a fault needs.

Packages are asked for their versions, not imported.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfdist.version import __version__

__all__ = ["Installation"]

_FIRST = ("tensorflow", "keras", "numpy")
_PACKAGES = (
    *_FIRST,
    *("absl-py", "wrapt", "protobuf", "grpcio", "h5py", "ml-dtypes", "tensorboard"),
    *("tensorflow-cpu", "tf-nightly", "keras-nightly", "tf_keras", "keras-hub", "ray"),
    *("nvidia-cudnn-cu12", "nvidia-nccl-cu12", "nvidia-cuda-runtime-cu12", "pyyaml", "shtab"),
)
_VARIABLES = re.compile(
    r"(CUDA|GRPC|JOB_COMPLETION|KERAS|KMP|MKL|NCCL|NVIDIA|OMP|OMPI_COMM|PET|PMIX?|SKYPILOT|SLURM"
    r"|TF|TFDIST|XLA)_.+|OMP_NUM_THREADS|LD_LIBRARY_PATH|LD_PRELOAD|PYTHON[A-Z]+|VIRTUAL_ENV"
    r"|COLUMNS|NO_COLOR|TERM|(https?|no|all|grpc)_proxy|(HTTPS?|NO|ALL)_PROXY"
)
_PRIVATE = re.compile(
    r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE|AUTH|USER|ACCOUNT|UID|GID|EMAIL"
    r"|COMMENT",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
_ASSIGNED = re.compile(
    r"(?i)\b(\w*(?:secret|token|password|passwd|api_?key|access_?key)\w*[\"']?\s*[=:]\s*)[^\s,;]+"
)
_REDACTED = "(redacted)"


@dataclass(frozen=True)
class Installation:
    """What a process with these variables finds.

    Args:
        environ: its variables.
    """

    environ: Mapping[str, str]

    def text(self) -> str:
        """Returns the versions in two lines."""
        found = ", ".join(f"{name} {_version(name) or 'not installed'}" for name in _FIRST)
        return (
            f"tfdist {__version__}\n"
            f"Python {platform.python_version()}, {found}; {platform.system()} {platform.machine()}"
        )

    def report(self) -> dict[str, Any]:
        """Returns what a report needs, as JSON holds it; the keys stay."""
        from tfdist.machine.gpus import gpus_here

        here = gpus_here(self.environ)
        return {
            "tfdist": __version__,
            "python": {
                "version": platform.python_version(),
                "implementation": platform.python_implementation(),
                "executable": self._public(sys.executable),
                "prefix": self._public(sys.prefix),
            },
            "platform": _platform(),
            "packages": {name: found for name in _PACKAGES if (found := _version(name))},
            "gpus": [gpu.name for gpu in here.gpus],
            "gpu_driver": _driver(),
            "gpu_trouble": self._public(here.trouble),
            "environment": self._environment(),
            "variables": self.variables(),
        }

    def variables(self) -> dict[str, str]:
        """Returns the variables that bear on a job, without what is private in them."""
        return {
            name: _REDACTED if _PRIVATE.search(name) else self._public(value)
            for name, value in sorted(self.environ.items())
            if _VARIABLES.fullmatch(name)
        }

    def _environment(self) -> dict[str, str | None]:
        """Which environment tells of a cluster, and of which; or why that cannot be read."""
        from tfdist.environments import ENVIRONMENTS
        from tfdist.errors import TfdistError

        found = next((one for one in ENVIRONMENTS if one.detect(self.environ)), None)
        told: dict[str, str | None] = {"name": None, "tasks": None, "task": None, "error": None}
        if found is None:
            return told
        told["name"] = found.name
        try:
            cluster = found.cluster(self.environ)
        except (TfdistError, OSError) as error:
            return {**told, "error": self._public(" ".join(str(error).split()))}
        counts = ", ".join(f"{len(cluster.jobs[job])} {job}" for job in cluster.jobs)
        return {**told, "tasks": counts, "task": str(cluster.task or "") or None}

    def _public(self, text: str) -> str:
        """A text without logins, secrets that are assigned in it, and the user's home."""
        text = _ASSIGNED.sub(rf"\1{_REDACTED}", _LOGIN.sub(f"{_REDACTED}@", text))
        home = self.environ.get("HOME", "").rstrip("/")
        return re.sub(rf"{re.escape(home)}(?=[/:]|$)", "~", text) if home else text


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _platform() -> dict[str, Any]:
    from tfdist.machine import capacities

    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cores": capacities.available_cores(),
        "cores_of_machine": os.cpu_count(),
        "memory_mib": capacities.memory() >> 20,
    }


def _driver() -> str | None:
    """The NVIDIA driver's version, as its kernel module tells."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as file:
            found = re.search(r"(\d+\.\d+(?:\.\d+)?)", file.readline())
    except OSError:
        return None
    return found[1] if found else None
