"""Where a view of a job is drawn: a terminal, a notebook, or nowhere.

A notebook's picture is HTML in an output that is put in the place of the one before: JupyterLab,
VS Code and Colab show that without ipywidgets, and a saved notebook keeps it.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from tfdist.functions.view import Screen

__all__ = ["NotebookScreen", "TerminalScreen", "find_screen", "in_notebook"]

_COLUMNS = 96  # what a window of 1,300 pixels shows in JupyterLab, beside its files
_PAGE = (
    "<pre style='white-space:pre;overflow-x:auto;line-height:normal;margin:0;"
    'font-family:Menlo,Consolas,"DejaVu Sans Mono",monospace\'>{code}</pre>'
)


class TerminalScreen:
    """A terminal, on which rich draws in place."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def show(self, picture: RenderableType) -> None:
        """See `Screen`."""
        from rich.live import Live

        if self._live is None:
            self._live = Live(picture, auto_refresh=False, redirect_stderr=False)
            self._live.start()
        self._live.update(picture, refresh=True)

    def close(self) -> None:
        """See `Screen`."""
        if self._live is not None:
            self._live.stop()


class NotebookScreen:
    """An output of a notebook's cell."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown: dict[str, str] = {}

    def show(self, picture: RenderableType) -> None:
        """See `Screen`."""
        from IPython import display

        bundle = _rendered(picture)
        if self._handle is None:
            put: Any = display.display
            self._handle = put(bundle, raw=True, display_id=True)
        elif bundle != self._shown:
            self._handle.update(bundle, raw=True)
        self._shown = bundle

    def close(self) -> None:
        """The last picture stays."""


def _rendered(picture: RenderableType) -> dict[str, str]:
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        record=True,
        width=_COLUMNS,
        force_terminal=True,
        force_jupyter=False,
        color_system="truecolor",
        _environ={},
    )
    console.print(picture)
    return {
        "text/html": console.export_html(inline_styles=True, code_format=_PAGE, clear=False),
        "text/plain": console.export_text(),
    }


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, whose outputs are pages."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def find_screen(*, asked_for: bool = False) -> Screen | None:
    """The screen that the caller looks at; None where there is only a stream of lines.

    Args:
        asked_for: Whether a bar is wanted by name: rich then draws its end, where it cannot draw in
            place.
    """
    from tfdist.launch.output import is_terminal

    if in_notebook():
        return NotebookScreen()
    return TerminalScreen() if asked_for or is_terminal(sys.stdout) else None
