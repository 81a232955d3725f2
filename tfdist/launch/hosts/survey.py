"""What all hosts of a job must have alike: versions and the script. Nothing is imported for it."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from typing import Any

from tfdist.version import __version__

__all__ = ["Survey", "arguments_that_are_paths"]

_PACKAGES = {
    "TensorFlow": ("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu"),
    "Keras": ("keras", "keras-nightly"),
}


@dataclass(frozen=True)
class Survey:
    """What a machine has of it.

    Attributes:
        versions: By name, "" for what is not there.
        script: The SHA-256 of the script's or module's file, "" where it is not there.
        missing: The paths, of those that were asked for, that are not there.
    """

    versions: Mapping[str, str]
    script: str
    missing: tuple[str, ...] = ()

    @classmethod
    def here(cls, command: Sequence[str], paths: Sequence[str] = ()) -> Survey:
        """Looks around on this machine, in the working directory.

        Args:
            command: The script's, as "train.py" or "-m", "package.module", and its arguments.
            paths: What to look for besides.
        """
        versions = {"Python": ".".join(platform.python_version_tuple()[:2]), "tfdist": __version__}
        for name, packages in _PACKAGES.items():
            found = (_version(package) for package in packages)
            versions[name] = next(filter(None, found), "")
        file = _module_file(command[1]) if command[0] == "-m" else command[0]
        return cls(versions, _digest(file), tuple(one for one in paths if not os.path.exists(one)))

    def to_tree(self) -> dict[str, Any]:
        """Returns what `from_tree` takes."""
        versions, missing = dict(self.versions), list(self.missing)
        return {"versions": versions, "script": self.script, "missing": missing}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Survey:
        """Reads what `to_tree` wrote.

        Raises:
            KeyError: Something is missing.
        """
        versions = {str(name): str(version) for name, version in tree["versions"].items()}
        return cls(versions, str(tree["script"]), tuple(map(str, tree["missing"])))

    def faults(
        self, host: str, here: Survey, command: Sequence[str], where: str = "here"
    ) -> list[str]:
        """What is not as it is here, in a sentence each.

        Args:
            host: Whose survey this is.
            here: The other one's.
            command: The script's.
            where: Where that is, in words.
        """
        found = []
        for name, version in here.versions.items():
            there = self.versions.get(name, "")
            if there != version:
                has = f"{name} {there}" if there else f"no {name}"
                mine = f"{name} {version}" if version else f"no {name}"
                found.append(
                    f"host {host} has {has}, and {mine} is {where}; install the same on all hosts"
                )
        script = command[1] if command[0] == "-m" else command[0]
        what = "module" if command[0] == "-m" else "script"
        if not here.script:  # of a dry run; or a module that cannot be looked up
            return found
        if not self.script:
            found.append(f"host {host} has no {what} {script}; put it there, as it is {where}")
        elif self.script != here.script:
            found.append(f"host {host} has another {what} {script} than is {where}; copy it anew")
        return found


def arguments_that_are_paths(command: Sequence[str]) -> list[str]:
    """The script's arguments that name something that is here, so that hosts may lack it."""
    words = [word.partition("=")[2] if word.startswith("-") else word for word in command[1:]]
    return [word for word in words if word and os.path.exists(word)]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _digest(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""


def _module_file(name: str) -> str:
    """The file of a module; "" where nobody knows it. No package of it is imported."""
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top, [os.getcwd(), *sys.path]) or find_spec(top)
    for part in (*rest, "__main__"):
        places = None if spec is None else spec.submodule_search_locations
        if places is None:  # of a package, Python runs the __main__
            return _origin(spec) if part == "__main__" else ""
        spec = PathFinder.find_spec(part, places)
    return _origin(spec)


def _origin(spec: ModuleSpec | None) -> str:
    return (spec.origin or "") if spec is not None else ""
