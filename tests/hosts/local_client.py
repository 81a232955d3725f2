"""In place of an SSH client: runs on this machine what a host is told, whatever its name.

python local_client.py [HOST=FOLDER] ... HOST COMMAND: HOST has FOLDER in place of the working one.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

__all__ = ["CLIENT"]

CLIENT = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__)))}"
"""What `--ssh` is given."""


def main(arguments: list[str]) -> None:
    host, command = arguments[-2:]
    for word in arguments[:-2]:
        name, _, folder = word.partition("=")
        if name == host:
            command = command.replace(os.getcwd(), folder)
    os.execvp("sh", ["sh", "-c", command])


if __name__ == "__main__":
    main(sys.argv[1:])
