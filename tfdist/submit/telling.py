"""What `tfdist submit` tells whoever has called it."""

from __future__ import annotations

import sys

__all__ = ["say", "write"]


def say(line: str) -> None:
    """Tells a line of tfdist's own."""
    write(f"[tfdist] {line}\n")


def write(text: str) -> None:
    """Shows what the job prints, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
