"""Where a process stands, read from the frames of its Python threads: no TensorFlow is asked."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

import tfdist

__all__ = ["called_from_graphs", "is_in_tensorflow", "is_tracing", "place_of"]

_LIBRARIES = (Path(tfdist.__file__).parent, *map(Path, sysconfig.get_paths().values()))
_METHODS = str(Path(tfdist.__file__).parent / "training" / "own_methods.py")
_TRACING = "tensorflow/python/framework/func_graph.py"
_RUNS_OPERATIONS = (
    "tensorflow/python/eager/",
    "tensorflow/python/framework/ops.py",
    "tensorflow/python/ops/gen_",
)
# TensorFlow's py_function, which generators go through, and Keras' threads for a PyDataset.
_CALLS_PYTHON = ("tensorflow/python/ops/script_ops.py", "data_adapters/py_dataset_adapter.py")


def place_of(frame: FrameType | None, *, module: bool = False) -> str:
    """Where the user's own code stands, as " (train.py, line 41, in on_epoch_end)".

    Args:
        frame: the innermost one of a thread.
        module: whether the program itself counts, outside of its functions; else what has called
            a plugged model's method does not count either.

    Returns:
        The place; "" where there is none.
    """
    for one in _outwards(frame):
        if one.f_code.co_filename == _METHODS and not module:
            return ""
        path = Path(one.f_code.co_filename)
        if path.name.startswith("__autograph_generated") or not path.is_file():
            continue
        if any(library in path.parents for library in _LIBRARIES):
            continue
        name = one.f_code.co_name
        if name == "<module>":
            return f" ({path.name}, line {one.f_lineno})" if module else ""
        return f" ({path.name}, line {one.f_lineno}, in {name})"
    return ""


def is_in_tensorflow(frame: FrameType | None) -> bool:
    """Whether a thread waits for an operation that TensorFlow runs.

    Args:
        frame: its innermost one.
    """
    path = "" if frame is None else frame.f_code.co_filename
    return any(part in path for part in _RUNS_OPERATIONS)


def is_tracing(frame: FrameType | None) -> bool:
    """Whether a thread is in the middle of writing a graph, in Python.

    Args:
        frame: its innermost one.
    """
    return not is_in_tensorflow(frame) and any(
        one.f_code.co_filename.endswith(_TRACING) for one in _outwards(frame)
    )


def called_from_graphs(besides: Iterable[int]) -> list[str]:
    """The places of the user's own code that TensorFlow or Keras has called in threads of its own.

    Args:
        besides: the threads that do not count, by their identity.
    """
    found = []
    others = set(besides)
    for thread, frame in sys._current_frames().items():
        if thread not in others and any(
            one.f_code.co_filename.endswith(_CALLS_PYTHON) for one in _outwards(frame)
        ):
            found.append(place_of(frame))
    return [place for place in found if place]


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
