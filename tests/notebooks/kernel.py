"""A notebook's kernel as a test drives it: cells in, what they show and raise out."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

__all__ = ["Kernel", "Ran", "kernel"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class _ThisPython(KernelManager):
    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


@dataclass
class Ran:
    """What a cell has shown.

    Attributes:
        out: Standard output and error.
        shown: Each picture of its display, HTML and text, in order.
        error: The class of what it has raised; "" where it has ended well.
        traceback: As a notebook shows it, without colours.
    """

    out: str = ""
    shown: list[dict[str, str]] = field(default_factory=list)
    error: str = ""
    traceback: str = ""


class Kernel:
    """One kernel."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.manager.provisioner.pid)  # type: ignore[union-attr]

    def begin(self, cell: str) -> str:
        """Starts a cell; returns the number of its request."""
        return str(self.client.execute(cell))

    def end(self, request: str, seconds: float = 60) -> Ran:
        """Waits until a cell has ended."""
        return self._read(request, seconds, "")

    def until(self, request: str, text: str, seconds: float = 30) -> Ran:
        """Waits until a cell has written a text."""
        return self._read(request, seconds, text)

    def run(self, cell: str, seconds: float = 60) -> Ran:
        """Runs a cell to its end."""
        return self.end(self.begin(cell), seconds)

    def _read(self, request: str, seconds: float, text: str) -> Ran:
        ran = Ran()
        deadline = time.monotonic() + seconds
        while not (text and text in ran.out):
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                ran.out += content["text"]
            elif kind in ("display_data", "update_display_data"):
                ran.shown.append(content["data"])
            elif kind == "execute_result":
                ran.out += content["data"]["text/plain"]
            elif kind == "error":
                ran.error = content["ename"]
                ran.traceback = _COLOUR.sub("", "\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                break
        return ran


@contextlib.contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel of the running Python, which ends with the block.

    Args:
        folder: Where it runs.
    """
    manager = _ThisPython(connection_file=str(folder / "kernel.json"))
    environment: dict[str, Any] = {**os.environ, "IPYTHONDIR": str(folder / "ipython")}
    manager.start_kernel(cwd=str(folder), env=environment)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
