"""Keras' own tests, from its source distribution: never a part of this repository.

Seen with pip: keras 3.15.1's source distribution holds its tests beside the code, and so does its
wheel; those of 3.0.0, 3.4.1, 3.14.0 and of the nightly 3.16.0.dev2026102704 hold none. No
distribution holds Keras' `integration_tests/`.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

__all__ = ["NEAREST", "fetch"]

NEAREST = "3.15.1"
"""Whose tests are run where the installed version's source distribution holds none."""


def fetch(version: str, into: Path) -> tuple[Path, str]:
    """Puts the tests of a version of Keras into a folder, unless they are there.

    Args:
        version: Keras' version, as "3.15.1".
        into: a scratch folder.

    Returns:
        The folder of the tests, which holds `trainers/trainer_test.py`, and the version whose they
        are.
    """
    for wanted in dict.fromkeys((version, NEAREST)):
        tests = into / f"keras-{wanted}"
        if not tests.is_dir() and "dev" not in wanted:
            _unpack(_download(wanted, into), tests)
        if tests.is_dir():
            return tests, wanted
    raise SystemExit(f"neither Keras {version} nor {NEAREST} has tests in its source distribution")


def _download(version: str, into: Path) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    archive = into / f"keras-{version}.tar.gz"
    if not archive.exists():
        options = ["--quiet", "--no-deps", "--no-binary", "keras", "--dest", str(into)]
        pip = [sys.executable, "-m", "pip", "download", *options, f"keras=={version}"]
        subprocess.run(pip, check=True, stdin=subprocess.DEVNULL, timeout=600)
    return archive


def _unpack(archive: Path, tests: Path) -> None:
    """Unpacks the files `keras/src/**/*_test.py`, if there are any."""
    unfinished = tests.with_suffix(".part")
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            _, _, path = member.name.partition("/keras/src/")
            content = files.extractfile(member) if path.endswith("_test.py") else None
            if content is not None:
                target = unfinished / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
    if unfinished.is_dir():
        (unfinished / "pytest.ini").write_text("[pytest]\n")
        unfinished.rename(tests)
