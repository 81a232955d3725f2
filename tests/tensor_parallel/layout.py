"""How the tests cut weights: by the names of layers."""

from __future__ import annotations

__all__ = ["LAYOUT"]

LAYOUT: dict[str, tuple[str | None, ...]] = {
    ".*column[^/]*/kernel": (None, "model"),
    ".*row[^/]*/kernel": ("model", None),
    ".*by_rows/embeddings": ("model", None),
    ".*by_columns/embeddings": (None, "model"),
    ".*attention/(query|key|value)/kernel": (None, "model", None),
    ".*attention_output/kernel": ("model", None, None),
    ".*ends/kernel": (None, None, "model"),
}
