"""The command `tfdist version`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from tfdist import command_line
from tfdist.diagnose.installation import Installation

__all__ = ["main", "version_parser"]

_EXAMPLES = """\
examples:
  tfdist version
  tfdist version --json
      for a report: versions, machine, GPUs, and the variables that matter
"""


def main(given: Sequence[str]) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist version`.

    Returns:
        0.
    """
    options = version_parser().parse_args(given)
    here = Installation(os.environ)
    text = json.dumps(here.report(), indent=2) if options.json else here.text()
    sys.stdout.write(f"{text}\n")
    return 0


def version_parser() -> command_line.Parser:
    """Returns the parser of `tfdist version`."""
    parser = command_line.Parser(
        prog="tfdist version",
        usage="tfdist version [--json]",
        description="Tell which tfdist this is, and which TensorFlow and Keras it finds. Starts "
        "no TensorFlow.",
        examples=_EXAMPLES,
    )
    parser.option(
        parser.general,
        "--json",
        "all that a report of a fault needs; secrets are left out",
        action="store_true",
        help="all that a report of a fault needs: versions, Python, machine, GPUs, the cluster "
        "that the environment tells of, and variables; secrets, names of users and the home "
        "folder are left out",
    )
    return parser
