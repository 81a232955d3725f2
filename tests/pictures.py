"""Whether a picture shows all that was drawn in it: what is too long is cut off in silence."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["all_of_it_is_seen"]


def all_of_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when it saves a figure of matplotlib that goes on beyond its edges."""
    from matplotlib.figure import Figure

    save = Figure.savefig

    def checked(figure: Figure, *rest: Any, **settings: Any) -> None:
        save(figure, *rest, **settings)
        seen, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        inside = seen.x0 >= 0 and seen.y0 >= 0 and seen.x1 <= width and seen.y1 <= height
        assert inside, f"{seen} of {width} x {height} inches"

    monkeypatch.setattr(Figure, "savefig", checked)
