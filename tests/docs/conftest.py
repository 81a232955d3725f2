"""The tests look names up in a table of their own."""

from __future__ import annotations

from tests.machine.names import names

__all__ = ["names"]
