"""What Kubernetes takes for a name, a quantity or a label: checked before anything is rendered.

Sources: Kubernetes' documentation of object names (RFC 1123, RFC 1035), labels, quantities, and
variables of containers.
"""

from __future__ import annotations

import re

from tfdist.errors import ClusterError

__all__ = [
    "LONGEST_LABEL",
    "check_cpus",
    "check_image",
    "check_label",
    "check_memory",
    "check_name",
    "check_object",
    "check_resource",
    "check_variable",
    "checked_path",
]

LONGEST_LABEL = 63
"""The most characters that a part of a host's name may have (RFC 1035)."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_PART = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_PART}(\.{_PART})*", re.ASCII)
_LONGEST_SUBDOMAIN = 253
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", re.ASCII)
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CPUS = re.compile(r"[0-9]+(\.[0-9]{1,3})?|[0-9]+m", re.ASCII)
_MEMORY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(Mi|Gi|Ti|M|G|T)", re.ASCII)
_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+", re.ASCII)


def check_name(option: str, name: str) -> None:
    """Refuses what is no name of a Service, the strictest of a job's objects.

    Raises:
        ClusterError: it is none.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST_LABEL:
        raise ClusterError(
            f"{option} {name!r}; give 1 to {LONGEST_LABEL} small letters, digits and dashes, a "
            "letter first, and no dash last"
        )


def check_object(option: str, name: str) -> None:
    """Refuses what is no name of an object that is there already: it may have dots.

    Raises:
        ClusterError: it is none.
    """
    if not _SUBDOMAIN.fullmatch(name) or len(name) > _LONGEST_SUBDOMAIN:
        raise ClusterError(
            f"{option} {name!r}; give the name of an object, of small letters, digits, dashes and "
            "dots"
        )


def check_resource(option: str, name: str) -> None:
    """Refuses what is no name of a resource of nodes, as nvidia.com/gpu.

    Raises:
        ClusterError: it is none.
    """
    domain, slash, rest = name.partition("/")
    if not (slash and _SUBDOMAIN.fullmatch(domain) and _LABEL_NAME.fullmatch(rest)):
        raise ClusterError(f"{option} {name!r}; give one as nvidia.com/gpu, or amd.com/gpu")


def check_image(image: str) -> None:
    """Refuses what cannot be the name of an image.

    Raises:
        ClusterError: it cannot.
    """
    if not _IMAGE.fullmatch(image):
        raise ClusterError(
            f"--image {image!r}; give the name of an image, as registry.example/fit:1, that "
            "tfdist submit kubernetes --dockerfile tells how to build"
        )


def check_label(option: str, key: str, value: str) -> None:
    """Refuses what is no key and value of a label.

    Raises:
        ClusterError: one of them is none.
    """
    domain, slash, name = key.rpartition("/")
    well = _LABEL_NAME.fullmatch(name) and (not slash or _SUBDOMAIN.fullmatch(domain))
    if not well or (value and not _LABEL_NAME.fullmatch(value)):
        raise ClusterError(f"{option} {f'{key}={value}'!r}; give a label, as pool=gpu")


def check_variable(name: str) -> None:
    """Refuses what is no name of a variable.

    Raises:
        ClusterError: it is none.
    """
    if not _VARIABLE.fullmatch(name):
        raise ClusterError(f"--env {name!r}; give NAME=VALUE, a name of letters, digits and _")


def check_cpus(cpus: str) -> None:
    """Refuses what is no number of processors.

    Raises:
        ClusterError: it is none, or none are left of it.
    """
    if not _CPUS.fullmatch(cpus) or not cpus.strip("0.m"):
        raise ClusterError(f"--cpus {cpus!r}; give processors, as 4, 0.5 or 500m")


def check_memory(option: str, amount: str) -> None:
    """Refuses what is no amount of memory, and what is one of a few bytes.

    Raises:
        ClusterError: it is none, or has no unit.
    """
    if not _MEMORY.fullmatch(amount):
        raise ClusterError(f"{option} {amount!r}; give an amount with its unit, as 512Mi or 8Gi")


def checked_path(option: str, path: str) -> str:
    """Returns a folder in a container, without a slash at its end.

    Raises:
        ClusterError: it is no absolute path below the root, or goes up.
    """
    path = path.rstrip("/")
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ClusterError(f"{option} {path!r}; give a folder, as /checkpoints")
    return path
