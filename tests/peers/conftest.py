"""As for tests/training: three logical CPUs, no scope that is left, the table of differences."""

from __future__ import annotations

from tests.training.conftest import _no_scope_is_left, pytest_terminal_summary

__all__ = ["_no_scope_is_left", "pytest_terminal_summary"]
