"""Which variables stand for one variable of plain Keras: the shards of tables, and their slots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import keras

from tfdist.compat import keras_slots
from tfdist.training.embeddings.sharded_embedding import sharded_embeddings
from tfdist.training.embeddings.sharded_variable import ShardedVariable
from tfdist.training.model_parts import optimizers_of, unique

__all__ = ["Whole", "find_slots", "keep_files_plain", "plain_slots", "plain_variables"]

W = TypeVar("W", bound="Whole")


class Whole(Protocol):
    """Variables that stand for one of plain Keras, which lie somewhere else each."""

    shards: tuple[keras.Variable, ...]

    def like(self: W, shards: Sequence[keras.Variable], name: str) -> W:
        """Returns others that lie as these do, seen as one."""

    def numpy(self) -> Any:
        """Returns the value of the one variable."""

    def assign(self, value: Any) -> None:
        """Sets it."""


_SLOT_NAMES = (
    "momentum",
    "velocity",
    "velocity_hat",
    "accumulator",
    "linear",
    "average_gradient",
    "accumulated_grad",
    "accumulated_delta_var",
    "norm",
    "average",
    "gradient_accumulator",
)


def find_slots(optimizer: Any, tables: Sequence[Whole]) -> dict[tuple[int, str], keras.Variable]:
    """The optimizer's slots of all shards, by the shard's identity and the slot's name.

    Keras names a slot `<path of the variable, / as _>_<name of the slot>`. Variables of the same
    path have their slots in the order of the variables.
    """
    by_name: dict[str, list[keras.Variable]] = {}
    for variable in optimizer.variables:
        by_name.setdefault(variable.name, []).append(variable)
    found: dict[tuple[int, str], keras.Variable] = {}
    taken: dict[str, int] = {}
    for table in tables:
        for shard in table.shards:
            for slot in _SLOT_NAMES:
                name = f"{shard.path.replace('/', '_')}_{slot}"
                candidates, place = by_name.get(name, []), taken.get(name, 0)
                if place < len(candidates):
                    found[id(shard), slot] = candidates[place]
                    taken[name] = place + 1
    return found


def plain_slots(optimizer: Any, tables: Sequence[W]) -> list[keras.Variable | W]:
    """The optimizer's variables in the order of plain Keras, the slots of a table's as one."""
    slots = find_slots(optimizer, tables)
    names = {id(slot): (of, name) for (of, name), slot in slots.items()}
    table_of = {id(shard): table for table in tables for shard in table.shards}
    found: list[keras.Variable | W] = []
    seen: set[tuple[int, str]] = set()
    for variable in optimizer.variables:
        if id(variable) not in names:
            found.append(variable)
            continue
        of, name = names[id(variable)]
        table = table_of[of]
        if (id(table), name) not in seen:
            seen.add((id(table), name))
            found.append(table.like([slots[id(s), name] for s in table.shards], name))
    return found


def keep_files_plain(optimizer: keras.optimizers.Optimizer, tables: Sequence[Whole]) -> None:
    """Has an optimizer write and read its slots as if each table were one variable.

    Its `save_own_variables` and `load_own_variables` are replaced on the object. Files then fit
    plain Keras and any number of shards.
    """

    def save_own_variables(store: Any) -> None:
        for i, variable in enumerate(plain_slots(optimizer, tables)):
            store[str(i)] = variable.numpy()

    def load_own_variables(store: Any) -> None:
        whole = plain_slots(optimizer, tables)
        if len(store.keys()) != len(whole):
            type(optimizer).load_own_variables(optimizer, store)  # warns, loads nothing
            return
        for i, variable in enumerate(whole):
            variable.assign(store[str(i)])

    for method in (save_own_variables, load_own_variables):
        keras_slots.replace_method(optimizer, method.__name__, method)


def plain_variables(model: keras.Model) -> dict[str, keras.Variable | ShardedVariable]:
    """A built model's weights and its optimizers' variables, as plain Keras would number them.

    Returns:
        They by name: `weight_0003`, `optimizer_0_0002`. The names are the same on any number of
        parameter servers, and on none.
    """
    tables = [layer.table for layer in sharded_embeddings(model) if layer.built]
    found = {f"weight_{i:04d}": v for i, v in enumerate(_whole(unique(model.weights), tables))}
    for number, optimizer in enumerate(optimizers_of(model)):
        slots = plain_slots(optimizer, tables)
        found |= {f"optimizer_{number}_{i:04d}": v for i, v in enumerate(slots)}
    return found


def _whole(
    variables: Iterable[keras.Variable], tables: Sequence[ShardedVariable]
) -> list[keras.Variable | ShardedVariable]:
    table_of = {id(shard): table for table in tables for shard in table.shards}
    return unique(table_of.get(id(variable), variable) for variable in variables)
