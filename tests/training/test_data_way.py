"""What `fit` is given goes a short way to the step: few files, each of which it reaches once."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import tensorflow as tf

import tfdist
from tests.training.comparing import mirrored
from tests.training.models import FIT, LABELS, X, classifier
from tfdist.training.data.stream import Step, Stream

HOUSE = Path(tfdist.__file__).parent
MOST_FILES = 12
LAST = "training/synchronous/step_loop.py"


def carries_data(frame: FrameType) -> bool:
    """Whether a function was given the data, or what is made of them."""
    values = list(frame.f_locals.values())
    values += [one for value in values if isinstance(value, tuple) for one in value]
    values += [one for value in values if isinstance(value, dict) for one in value.values()]
    kinds = (Stream, Step, tf.data.Dataset)
    return any(value is X or isinstance(value, kinds) for value in values)


def test_the_way_from_fit_to_the_step_is_short() -> None:
    with mirrored(2).scope():
        model = tfdist.plug(classifier())
    way: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and HOUSE in file.parents and carries_data(frame):
            way.append(str(file.relative_to(HOUSE)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        model.fit(X, LABELS, **FIT)
    finally:
        sys.setprofile(before)
    files = list(dict.fromkeys(way[: way.index(LAST) + 1]))
    assert len(files) <= MOST_FILES, files
    # From `plug` to the data, from there to the loop, which has their position saved, and by the
    # loop to the family.
    rooms = [file for file in files if not file.startswith(("training/data/", "compat/"))]
    assert rooms == [
        "training/own_methods.py",
        "training/plugged.py",
        "training/loop/epoch_loop.py",
        "training/loop/saving.py",
        "training/synchronous/synchronous.py",
        LAST,
    ]
