"""The table that a parameter-server job shows at its start: what lives on which server."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

__all__ = ["Placed", "describe_placement", "placed"]

_SHARD = re.compile(r"(?P<table>.+)/embeddings_shard_\d+$")
_HERE = "this process"


@dataclasses.dataclass(frozen=True)
class Placed:
    """A variable and where it lives.

    Attributes:
        name: its path.
        task: such as "ps:0".
        shape: its shape.
        itemsize: bytes of an element.
    """

    name: str
    task: str
    shape: tuple[int, ...]
    itemsize: int

    def __post_init__(self) -> None:
        if self.itemsize < 1 or any(size < 0 for size in self.shape):
            raise ValueError(f"a variable of shape {self.shape} with items of {self.itemsize} B")

    @property
    def parameters(self) -> int:
        """Its elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return self.parameters * self.itemsize


def placed(variables: Iterable[Any]) -> list[Placed]:
    """Returns where Keras variables (a model's, an optimizer's) live, each once."""
    found = {}
    for variable in variables:
        device = tf.DeviceSpec.from_string(variable.value.device)
        task = f"{device.job}:{device.task}" if device.job not in (None, "localhost") else _HERE
        shape = tuple(int(size) for size in variable.shape)
        size = tf.as_dtype(variable.value.dtype).size
        found[id(variable)] = Placed(variable.path, task, shape, size)
    return list(found.values())


def describe_placement(variables: Sequence[Placed]) -> str:
    """Draws what lives on which server, and how the large tables are cut.

    Args:
        variables: weights, metrics and the optimizer's slots, from `placed`.

    Returns:
        A text table of a line a server, and a line for each sharded table; without a last newline.

    Example:
        >>> print(describe_placement(placed(model.variables + model.optimizer.variables)))
        server  variables  parameters    size  share
        ps:0            5     801,024  3.1 MiB    50%
        ps:1            4     800,001  3.1 MiB    50%
        embedding: 100,000 x 8 in 2 shards, on ps:0 and ps:1
    """
    by_task: dict[str, list[Placed]] = collections.defaultdict(list)
    for variable in variables:
        by_task[variable.task].append(variable)
    total = sum(variable.bytes for variable in variables) or 1
    rows = [("server", "variables", "parameters", "size", "share")]
    for task in sorted(by_task, key=_in_order):
        own = by_task[task]
        size = sum(variable.bytes for variable in own)
        parameters = sum(variable.parameters for variable in own)
        share = f"{100 * size / total:.0f}%"
        rows.append((task, str(len(own)), f"{parameters:,}", _readable(size), share))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]
    return "\n".join(lines + _tables(variables))


def _tables(variables: Sequence[Placed]) -> list[str]:
    shards: dict[str, list[Placed]] = collections.defaultdict(list)
    for variable in variables:
        match = _SHARD.match(variable.name)
        if match:
            shards[match["table"]].append(variable)
    lines = []
    for table, parts in shards.items():
        height, width = sum(part.shape[0] for part in parts), parts[0].shape[1]
        number = "1 shard" if len(parts) == 1 else f"{len(parts)} shards"
        tasks = sorted({part.task for part in parts}, key=_in_order)
        where = " and ".join(filter(None, [", ".join(tasks[:-1]), tasks[-1]]))
        lines.append(f"{table}: {height:,} x {width} in {number}, on {where}")
    return lines


def _in_order(task: str) -> tuple[str, int]:
    job, _, index = task.partition(":")
    return job, int(index or 0)


def _readable(size: float) -> str:
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {units[-1]}"
