"""For the API's pages: `Example:` in a docstring is a section of examples, as `Examples:` is.

Griffe, which reads the docstrings for mkdocstrings, knows the plural only.
"""

from __future__ import annotations

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section before the docstring is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Looks at each module, class, function and attribute once it is read."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = text.replace("\nExample:\n", "\nExamples:\n")
