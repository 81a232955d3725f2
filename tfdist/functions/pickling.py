"""What travels between the caller and the tasks: pickles, with functions and classes by value.

cloudpickle packs what is defined in a notebook or in `__main__` by value, and finds a class again
that has come home. What Keras and TensorFlow have needs more care, since a task can make its first
variable only after its strategy:

    to the tasks        a Keras model is its .keras file, loaded in the strategy's scope; a tensor,
                        a dataset or a strategy is refused, with what to do instead
    back to the caller  a Keras model likewise; a History without its model; a tensor or a variable
                        as a NumPy array
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import threading
from collections.abc import Iterator
from types import CodeType
from typing import IO, Any, Literal

import cloudpickle

from tfdist.errors import LaunchError
from tfdist.functions import keras_values
from tfdist.functions.sources import lines_of, shown_name

__all__ = ["Packer", "Unpackable", "loading", "pack", "unpack"]

Way = Literal["there", "back"]
"""To the tasks, or back to the caller."""

_here = threading.local()
_NO_NAME = "<dynamic-code>"  # what cloudpickle 3.1 calls every file


class Unpackable(LaunchError):
    """Something that no other process can have; the message says what to do instead."""


class Packer(cloudpickle.Pickler):
    """Packs one value into a file.

    Attributes:
        needs_scope: Whether it holds variables, which the tasks make in their strategy's scope.
        sources: The lines of what was packed of no file, by the name that it has there.
    """

    def __init__(self, file: IO[bytes], way: Way) -> None:
        """Prepares it.

        Args:
            file: Takes the bytes.
            way: Where the value goes.
        """
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.needs_scope = False
        self.sources: dict[str, list[str]] = {}
        self._way: Way = way

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler`."""
        if "keras" in sys.modules or "tensorflow" in sys.modules:
            kind = keras_values.kind_of(obj)
            if kind is not None:
                return self._reduce(kind, obj)
        if isinstance(obj, CodeType):
            return self._reduce_code(obj)
        return super().reducer_override(obj)

    def _reduce_code(self, code: CodeType) -> Any:
        """As cloudpickle does it, which leaves out whose lines they are."""
        make, arguments = self.dispatch_table[CodeType](code)
        name = shown_name(code.co_filename)
        if lines := lines_of(code.co_filename):
            self.sources[name] = lines
        return make, tuple(name if one == _NO_NAME else one for one in arguments)

    def _reduce(self, kind: keras_values.Kind, obj: Any) -> Any:
        advice = keras_values.ADVICE[self._way].get(kind)
        if advice:
            name = type(obj).__name__
            raise Unpackable(f"{'an' if name[0] in 'AEIOU' else 'a'} {name}: {advice}")
        if kind in ("model", "part"):
            self.needs_scope = True
        if kind == "model":
            try:
                return keras_values.reduce_model(obj)
            except keras_values.SharedName as error:
                raise Unpackable(f"a Keras model with {error}") from None
        if kind == "history":
            return keras_values.reduce_history(obj)
        if kind in ("tensor", "variable"):
            return keras_values.reduce_tensor(obj)
        return super().reducer_override(obj)


def pack(value: object, file: IO[bytes], way: Way, what: str) -> Packer:
    """Packs a value.

    Args:
        value: Which.
        file: Takes the bytes.
        way: Where it goes.
        what: Its name in errors.

    Returns:
        The packer, which knows what it has met.

    Raises:
        Unpackable: It cannot go there.
    """
    packer = Packer(file, way)
    try:
        packer.dump(value)
    except Unpackable as error:
        raise Unpackable(f"{what} holds {error}") from None
    except RecursionError:
        raise Unpackable(f"{what} is nested too deeply to be packed: make it flatter") from None
    except OSError as error:
        raise LaunchError(f"{what} cannot be written: {error.strerror or error}") from None
    except Exception as error:  # each class has its own way of saying that it cannot
        first = str(error).partition("\n")[0]
        end = (
            "make it inside of the function"
            if way == "there"
            else "return numbers, text, arrays, lists and dictionaries of them, or a Keras model"
        )
        raise Unpackable(
            f"{what} cannot go to another process ({type(error).__name__}: {first}): {end}"
        ) from None
    return packer


def unpack(file: IO[bytes]) -> Any:
    """Reads the next value of a file that another process of this job has packed."""
    with _told():
        return pickle.load(file)


def loading() -> bool:
    """Whether this thread is reading what was packed, and imports modules for it."""
    return getattr(_here, "loading", 0) > 0


@contextlib.contextmanager
def _told() -> Iterator[None]:
    before = getattr(_here, "loading", 0)
    _here.loading = before + 1
    try:
        yield
    finally:
        _here.loading = before
