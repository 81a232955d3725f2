"""Which weights are cut over devices, and along which axis. Pure: imports no TensorFlow, no Keras.

Spelt as `keras.distribution.LayoutMap`: patterns of the paths of weights, each with one entry an
axis, the name of the devices' axis or None.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from tfdist.errors import PlugError, StrategyError

__all__ = ["WeightLayout"]

_EXAMPLE = "{'.*ffn_up/kernel': (None, 'model'), '.*ffn_down/kernel': ('model', None)}"


@dataclasses.dataclass(frozen=True)
class WeightLayout:
    """The axes along which weights are cut.

    Attributes:
        axes: from regular expressions, which match whole paths of weights, to the number of the
            axis that is cut, or None for a weight that stays whole; and to how many axes it has.
        ranks: from the same to the number of axes that a weight must have.
    """

    axes: Mapping[str, int | None]
    ranks: Mapping[str, int]

    @classmethod
    def of(cls, given: object, devices: int | None = None) -> WeightLayout:
        """Reads what a user gives as `layout_map`.

        Args:
            given: a dictionary from patterns to tuples of axis names and None, or a
                `keras.distribution.LayoutMap`.
            devices: over how many a weight is cut; a LayoutMap's mesh must have as many.

        Raises:
            StrategyError: it is something else, or cuts a weight along several axes.
        """
        if not isinstance(given, Mapping):
            raise StrategyError(
                f"layout_map={given!r}: give a dictionary from patterns of weights' paths to one "
                f"entry an axis, such as {_EXAMPLE}, or a keras.distribution.LayoutMap"
            )
        axes: dict[str, int | None] = {}
        ranks: dict[str, int] = {}
        names: set[str] = set()
        for pattern in given:
            # A LayoutMap's own `get` would take a pattern for the path of a weight.
            entry = _entry(pattern, given[pattern])
            _compiled(pattern)
            cut = [i for i, name in enumerate(entry) if name is not None]
            if len(cut) > 1:
                raise StrategyError(
                    f"layout_map cuts {pattern!r} along {len(cut)} axes, {entry}: name one of "
                    "them, and give replicas=N for copies of the model"
                )
            names.update(name for name in entry if name is not None)
            axes[pattern] = cut[0] if cut else None
            ranks[pattern] = len(entry)
        if len(names) > 1:
            raise StrategyError(
                f"layout_map names {len(names)} axes of devices, {', '.join(sorted(names))}: "
                "name one, and give replicas=N for copies of the model"
            )
        _check_mesh(getattr(given, "device_mesh", None), names, devices)
        return cls(axes, ranks)

    def axis(self, path: str, rank: int) -> int | None:
        """Returns the axis along which a weight is cut, or None.

        Args:
            path: of the weight, as `keras.Variable.path` has it.
            rank: how many axes it has.

        Raises:
            PlugError: several patterns match, or one of a weight with another number of axes.
        """
        found = [pattern for pattern in self.axes if _compiled(pattern).fullmatch(path)]
        if len(found) > 1:
            raise PlugError(
                f"layout_map has {len(found)} patterns for the weight {path!r}: "
                f"{', '.join(map(repr, found))}; leave one that matches it"
            )
        if not found:
            return None
        if self.ranks[found[0]] != rank:
            raise PlugError(
                f"layout_map has {self.ranks[found[0]]} entries for {found[0]!r}, but the weight "
                f"{path!r} has {rank} axes: give one entry an axis"
            )
        return self.axes[found[0]]

    def check_all_used(self, paths: Sequence[str]) -> None:
        """Checks that every pattern is of some weight.

        Args:
            paths: of all weights of a model.

        Raises:
            PlugError: one is of none: what it was meant for would stay whole, without a word.
        """
        for pattern in self.axes:
            if not any(_compiled(pattern).fullmatch(path) for path in paths):
                near = get_close_matches(pattern.replace(".*", ""), paths, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise PlugError(
                    f"layout_map has {pattern!r}, which is no weight's path ({hint}the model has "
                    f"{_some(paths)}): give patterns of whole paths, as '.*dense/kernel'"
                )


def _entry(pattern: object, value: Any) -> tuple[str | None, ...]:
    entry = getattr(value, "axes", value)  # of a keras.distribution.TensorLayout
    right = isinstance(entry, tuple | list) and all(
        name is None or isinstance(name, str) for name in entry
    )
    if not isinstance(pattern, str) or not right:
        raise StrategyError(
            f"layout_map holds {pattern!r}: {value!r}: give a pattern of weights' paths, and a "
            f"tuple with one entry an axis, such as {_EXAMPLE}"
        )
    return tuple(entry)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise StrategyError(
            f"layout_map has the pattern {pattern!r}, which is no regular expression ({error}): "
            "give one, such as '.*dense/kernel'"
        ) from error


def _check_mesh(mesh: Any, names: set[str], devices: int | None) -> None:
    if mesh is None or devices is None or not names:
        return
    sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
    (name,) = names
    if sizes.get(name) != devices:
        raise StrategyError(
            f"layout_map is of a mesh whose axis {name!r} has {sizes.get(name)} devices, but "
            f"weights are cut over {devices}: give the strategy tensor_parallel_size="
            f"{sizes.get(name)}, or a mesh of {devices}"
        )


def _some(paths: Iterable[str], shown: int = 12) -> str:
    paths = list(paths)
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return ", ".join(paths[:shown]) + more
