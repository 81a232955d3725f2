"""The Dockerfile of an image that a job of Kubernetes can run: pure text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tfdist.errors import ClusterError

__all__ = ["Dockerfile"]


@dataclass(frozen=True)
class Dockerfile:
    """An image with a script, and what it needs.

    Attributes:
        python: which Python, as "3.12".
        packages: what is installed first, as it is large and seldom another one.
        tfdist: what pip installs tfdist from, if the build does not say.
        requirements: a file of pip's with more; "" for none.
        user: the number of the user that all runs as.

    Raises:
        ClusterError: `requirements` is no file that a build in this folder can copy.
    """

    python: str
    packages: Sequence[str]
    tfdist: str
    requirements: str = ""
    user: int = 1000

    def __post_init__(self) -> None:
        path = PurePosixPath(self.requirements)
        if path.is_absolute() or ".." in path.parts or len(self.requirements.split()) > 1:
            raise ClusterError(
                f"--requirements {self.requirements!r}; a build copies what lies in the folder of "
                "the Dockerfile: give a path from there, without blanks and without .."
            )

    def text(self) -> str:
        """Returns the file."""
        install = "RUN python -m pip install --no-cache-dir"
        more = [
            f"COPY {self.requirements} {self.requirements}",
            f"{install} -r {self.requirements}",
        ]
        packages = " ".join(f'"{package}"' for package in self.packages)
        lines = [
            "# docker build -t registry.example/fit:1 . && docker push registry.example/fit:1",
            f"FROM python:{self.python}-slim",
            "WORKDIR /app",
            f"{install} {packages}",
            *(more if self.requirements else []),
            "",
            "# A version, or a wheel in this folder: --build-arg TFDIST=./tfdist-...-none-any.whl",
            f"ARG TFDIST={self.tfdist}",
            "COPY . .",
            f'{install} "$TFDIST"',
            f"USER {self.user}:{self.user}",
        ]
        return "\n".join([*lines, ""])
