"""The versions that all tasks of a job must have in common."""

from __future__ import annotations

import sys
from importlib import metadata

__all__ = ["installed_versions"]

_PACKAGES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu"),
    "keras": ("keras", "keras-nightly"),
    "tfdist": ("tfdist",),
}


def installed_versions() -> dict[str, str]:
    """Returns what must be the same on all tasks, without importing any of it.

    Returns:
        The versions of tensorflow, keras, tfdist and python (major and minor), by name; without
        those that are not installed as packages.
    """
    found = {}
    for name, distributions in _PACKAGES.items():
        for distribution in distributions:
            try:
                found[name] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
            break
    found["python"] = f"{sys.version_info.major}.{sys.version_info.minor}"
    return found
