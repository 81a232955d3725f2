"""The lines that tfdist shows its user: one an event, the task in front.

Python's logger "tfdist" carries them, at the level that absl's flag `--verbosity` or
`logging.getLogger("tfdist").setLevel("WARNING")` sets. They do not go through absl's own handler:
before a program has parsed its flags that one keeps informative lines to itself, and a line such as
"waiting for worker:1" is meant to be seen in a notebook or in a plain script too.
"""

from __future__ import annotations

import logging as python_logging
import sys

__all__ = ["info", "logger", "set_task", "warning", "warning_once"]

logger = python_logging.getLogger("tfdist")


class _Handler(python_logging.Handler):
    """Writes to what stderr is at the moment, as tests exchange it; in a notebook to stdout."""

    def emit(self, record: python_logging.LogRecord) -> None:
        try:
            # Jupyter shows stderr on red, as if something had gone wrong.
            stream = sys.stdout if "ipykernel" in sys.modules else sys.stderr
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)


def set_task(name: str) -> None:
    """Puts this task's name in front of the lines to come."""
    task = name and f"{name} "
    for handler in _prepared().handlers:
        handler.setFormatter(
            python_logging.Formatter(
                f"%(levelname).1s%(asctime)s {task}tfdist] %(message)s", "%H:%M:%S"
            )
        )


def _prepared() -> python_logging.Logger:
    if not logger.handlers:
        logger.addHandler(_Handler())
        logger.propagate = False
        if logger.level == python_logging.NOTSET:
            logger.setLevel(python_logging.INFO)
        set_task("")
    return logger


def info(message: str, *args: object) -> None:
    """Shows a line about what is happening, such as a wait."""
    _prepared().info(message, *args)


def warning(message: str, *args: object) -> None:
    """Shows a line about what the user may want to change."""
    _prepared().warning(message, *args)


def warning_once(message: str, *args: object, about: str = "") -> None:
    """Warns, unless this process has said the same already.

    Args:
        message: as `logging` has it, with %s.
        args: for the message.
        about: what it is about, where something else may have been said of that already.
    """
    said = (about,) if about else (message, args)
    if said not in _said:
        _said.add(said)
        warning(message, *args)


_said: set[tuple[object, ...]] = set()
