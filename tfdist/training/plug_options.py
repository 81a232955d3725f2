"""The options of `tfdist.plug`, checked before anything is built."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from tfdist.errors import PlugError
from tfdist.given_numbers import is_count, is_number
from tfdist.strategies.strategy_options import did_you_mean

__all__ = ["FAMILY_OPTIONS", "TrainingOptions", "keywords_from"]

_GRADIENT_DTYPES = (None, "bfloat16", "float16")

FAMILY_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "synchronous": (
        "gradient_dtype",
        "error_feedback",
        "local_steps",
        "outer_learning_rate",
        "outer_momentum",
        "cache_data",
        "data_on_device",
        "virtual_replicas",
        "shard_optimizer",
    ),
    "parameter_server": (
        "fetch_every",
        "push_every",
        "local_learning_rate",
        "warm_start",
        "max_staleness",
        "backup_workers",
        "shard_embeddings_from",
        "embedding_shards",
        "exact_embeddings",
    ),
    "pipeline": ("costs", "memory_limit"),
}
"""Which options mean something to which of tfdist's own families."""


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """The options of `tfdist.plug`, which says what each means. All is off by default."""

    gradient_dtype: str | None = None
    error_feedback: bool = False
    local_steps: int = 1
    outer_learning_rate: float = 1.0
    outer_momentum: float = 0.0
    cache_data: bool = False
    data_on_device: bool | None = None
    virtual_replicas: int | None = None
    shard_optimizer: bool = False
    fetch_every: int = 1
    push_every: int = 1
    local_learning_rate: float | None = None
    warm_start: int = 0
    max_staleness: int | None = None
    backup_workers: int | None = None
    shard_embeddings_from: int | None = 256 << 10
    embedding_shards: int | None = None
    exact_embeddings: bool = False
    costs: Mapping[str, float] | None = None
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("error_feedback", "cache_data", "exact_embeddings"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise PlugError(f"{name}={value!r}: give True or False")
        if self.gradient_dtype not in _GRADIENT_DTYPES:
            raise PlugError(
                f"gradient_dtype={self.gradient_dtype!r}: give 'bfloat16', 'float16' or None"
            )
        if self.error_feedback and self.gradient_dtype is None:
            raise PlugError(
                "error_feedback=True without a gradient_dtype: nothing is rounded, so there is "
                "nothing to feed back; give gradient_dtype='bfloat16' too, or leave it out"
            )
        if not is_count(self.local_steps):
            raise PlugError(f"local_steps={self.local_steps!r}: give a number of steps, at least 1")
        if self.local_steps > 1 and self.gradient_dtype is not None:
            raise PlugError(
                "local_steps with a gradient_dtype: with local steps no gradients are exchanged; "
                "choose one of the two"
            )
        others = [
            name
            for name, used in (
                ("gradient_dtype", self.gradient_dtype is not None),
                ("local_steps", self.local_steps > 1),
            )
            if used
        ]
        if self.virtual_replicas and others:
            raise PlugError(
                f"virtual_replicas with {others[0]}: what that exchanges depends on the number of "
                "workers; choose one of the two"
            )
        if type(self.shard_optimizer) is not bool:
            raise PlugError(f"shard_optimizer={self.shard_optimizer!r}: give True or False")
        if self.shard_optimizer and others:
            raise PlugError(
                f"shard_optimizer with {others[0]}: it has gradients go, as they are and at every "
                "step, to whom they belong; choose one of the two"
            )
        rate, momentum = self.outer_learning_rate, self.outer_momentum
        if not is_number(rate, above=0) or not (
            is_number(momentum, above=-1) and 0 <= momentum < 1
        ):
            raise PlugError(
                f"outer_learning_rate={self.outer_learning_rate!r}, outer_momentum="
                f"{self.outer_momentum!r}: give a rate above 0 and a momentum from 0 to below 1"
            )

        for name, least in (("fetch_every", 1), ("push_every", 1), ("warm_start", 0)):
            value = getattr(self, name)
            if not is_count(value, least):
                raise PlugError(f"{name}={value!r}: give a number of steps, at least {least}")
        stale = self.max_staleness
        if stale is not None and not is_count(stale, 0):
            raise PlugError(f"max_staleness={stale!r}: give a number of steps, 0 or more, or None")
        if stale is not None and max(self.fetch_every, self.push_every) > 1:
            raise PlugError(
                f"max_staleness with fetch_every={self.fetch_every}, push_every={self.push_every}: "
                "a worker's own copy of the weights misses what others do; choose one of the two"
            )
        spare = self.backup_workers
        if spare is not None and not is_count(spare, 0):
            raise PlugError(
                f"backup_workers={spare!r}: give a number of workers, 0 or more, or None"
            )
        for name in FAMILY_OPTIONS["parameter_server"] if spare is not None else ():
            value, default = getattr(self, name), getattr(type(self), name)
            if name != "backup_workers" and value not in (default, None):
                raise PlugError(
                    f"backup_workers with {name}: each batch is one update that workers make "
                    "together, of embeddings that are whole; choose one of the two"
                )
        for name in ("shard_embeddings_from", "embedding_shards", "virtual_replicas"):
            value = getattr(self, name)
            if value is not None and not is_count(value):
                raise PlugError(f"{name}={value!r}: give a number of at least 1, or None")
        if self.exact_embeddings and max(self.fetch_every, self.push_every) > 1:
            raise PlugError(
                f"exact_embeddings with fetch_every={self.fetch_every}, push_every="
                f"{self.push_every}: local steps are not those of one process; choose one of the "
                "two"
            )
        if not (self.data_on_device is None or isinstance(self.data_on_device, bool)):
            raise PlugError(f"data_on_device={self.data_on_device!r}: give True, False or None")
        local = self.local_learning_rate
        if local is not None and not is_number(local, above=0):
            raise PlugError(f"local_learning_rate={local!r}: give a rate above 0, or None")
        limit = self.memory_limit
        if limit is not None and not is_number(limit, above=0):
            raise PlugError(f"memory_limit={limit!r}: give a number of bytes above 0, or None")
        if not (self.costs is None or isinstance(self.costs, Mapping)):
            raise PlugError(
                f"costs={self.costs!r}: give a dictionary from names of layers to what they cost"
            )

    def check_for(self, family: str, options: Collection[str] | None = None) -> None:
        """Checks that the options which were given mean something to a family of strategies.

        Args:
            family: its name.
            options: those that do; by default as `FAMILY_OPTIONS` says.

        Raises:
            PlugError: one of them would be ignored.
        """
        known = FAMILY_OPTIONS[family] if options is None else options
        for field in dataclasses.fields(self):
            if field.name in known or getattr(self, field.name) == field.default:
                continue
            others = [name for name, those in FAMILY_OPTIONS.items() if field.name in those]
            raise PlugError(
                f"{field.name} means nothing to the {family.replace('_', ' ')} strategy of this "
                f"model, only to {' and '.join(others).replace('_', ' ')} ones: leave it out"
            )

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> TrainingOptions:
        """Returns the options for `plug`'s keywords; the unknown are named with the nearest."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in keywords:
            if name not in known:
                hint = did_you_mean(name, known)
                raise PlugError(f"plug has no option {name!r}; {hint}it has {', '.join(known)}")
        return cls(**keywords)


def keywords_from(text: str) -> dict[str, Any]:
    """Reads plug's options from a command line, such as "gradient_dtype=bfloat16,cache_data=true".

    Args:
        text: names and values; a value is a number, true, false, none or a word.

    Returns:
        The keywords for `plug`.

    Raises:
        PlugError: one of them is none that plug takes, or cannot be given as text.
    """
    keywords: dict[str, Any] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        name = name.replace("-", "_")
        if not equals or not value:
            raise PlugError(f"{part!r} among plug's options; write name=value,name=value")
        if name in keywords:
            raise PlugError(f"{name} twice among plug's options; give it once")
        keywords[name] = _value_of(value)
    if "costs" in keywords:
        raise PlugError(
            "costs as text; measured costs can only be given in a script: plug(model, costs=...)"
        )
    for field in dataclasses.fields(TrainingOptions):
        value = keywords.get(field.name, field.default)
        if isinstance(field.default, bool):
            if not isinstance(value, bool):
                raise PlugError(f"{field.name}={value!r}: give true or false")
        elif isinstance(value, bool) and "bool" in str(field.type):
            continue
        elif isinstance(value, str | bool) and "str" not in str(field.type):
            raise PlugError(f"{field.name}={value!r}: give a number")
    TrainingOptions.from_keywords(keywords)
    return keywords


def _value_of(text: str) -> object:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
