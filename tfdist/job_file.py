"""A file with what `tfdist run` is given, as `--config job.toml` takes it.

    workers = 2                          the options, spelt with dashes or underscores
    plug = true
    env = ["SEED=1"]                     what may be given several times is a list, or a table
    plug_options = {local_steps = 4}
    script = "train.py"                  or: module = "package.module"
    args = ["--epochs", "5"]             the script's own

It becomes the words of a command line, which are read, checked and told as these are. TOML is read
by Python; YAML by PyYAML, all scalars as texts, since YAML 1.1 takes 1:4 for 64 and on for true.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tfdist.errors import ClusterError

__all__ = ["ALLOWED", "ITEMS", "JobFile", "Kind"]

ALLOWED = ("script", "module", "args")
"""The keys that are no options."""

ITEMS = {"env": "", "hosts": ",", "plug_options": ","}
"""The options that take a list or a table, and what joins its items; "" gives each on its own."""

Kind = Mapping[str, bool]
"""The options that there are, and whether each takes a value."""


@dataclass(frozen=True)
class JobFile:
    """What a file says.

    Attributes:
        path: the file.
        options: the words of each option's values; none for a flag that is set, or is not.
        flags: whether each flag that is given is set.
        command: the script's, or the module's, with its arguments; () where it names none.
    """

    path: str
    options: Mapping[str, tuple[str, ...]]
    flags: Mapping[str, bool]
    command: tuple[str, ...]

    @classmethod
    def read(cls, path: str, kinds: Kind) -> JobFile:
        """Reads a file.

        Args:
            path: its name ends in .toml, .yaml or .yml.
            kinds: the options that there are.

        Raises:
            ClusterError: it cannot be read, has an unknown key, or a value of another type.
        """
        return _Reading(path, kinds).result(_table(path))

    @property
    def words(self) -> list[str]:
        """The options as a command line has them."""
        flags = [f"--{name}" if value else f"--no_{name}" for name, value in self.flags.items()]
        return flags + [
            f"--{name}={value}" for name, values in self.options.items() for value in values
        ]

    def shown(self, name: str) -> str:
        """An option of the file and what it says, for a message."""
        if name in self.flags:
            return f"{self.path} has {name} = {str(self.flags[name]).lower()}"
        return f"{self.path} has {name} = {', '.join(self.options[name])}"


class _Reading:
    """Checks a file's keys and values."""

    def __init__(self, path: str, kinds: Kind) -> None:
        self.path = path
        self.kinds = kinds

    def result(self, table: Mapping[Any, Any]) -> JobFile:
        options: dict[str, tuple[str, ...]] = {}
        flags: dict[str, bool] = {}
        extra: dict[str, Any] = {}
        for key, value in table.items():
            name = str(key).replace("-", "_")
            if name in options or name in flags or name in extra:
                self._refuse(f"{name} twice, with dashes and with underscores; give it once")
            if name in ALLOWED:
                extra[name] = value
            elif name not in self.kinds:
                self._refuse_key(str(key))
            elif self.kinds[name]:
                options[name] = self._values(name, value)
            else:
                flags[name] = self._flag(name, value)
        return JobFile(self.path, options, flags, self._command(extra))

    def _refuse(self, what: str) -> NoReturn:
        raise ClusterError(f"{self.path}: {what}")

    def _refuse_value(self, name: str, value: object, allowed: str) -> NoReturn:
        self._refuse(f"{name} = {_shown(value)}; give {allowed}")

    def _refuse_key(self, key: str) -> NoReturn:
        from tfdist.cluster.task import nearest

        known = [*self.kinds, *ALLOWED]
        hint = nearest(key, known)
        self._refuse(
            f"unknown key {key!r}{hint or '; the keys are the options of tfdist run'}"
            f"{'' if hint else ', script, module and args'}"
        )

    def _flag(self, name: str, value: object) -> bool:
        if isinstance(value, bool):
            return value
        if value in ("true", "false") and not self.path.endswith(".toml"):
            return value == "true"  # all is text in YAML as it is read here
        return self._refuse_value(name, value, "true or false")

    def _text(self, name: str, value: object, allowed: str) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            self._refuse_value(name, value, allowed)
        return str(value)

    def _item(self, name: str, key: object, value: object) -> str:
        if name == "env" and value == "":  # a variable may be empty
            return ""
        return self._text(f"{name}.{key}", _lowered(value), "a text or a number")

    def _values(self, name: str, value: object) -> tuple[str, ...]:
        if name not in ITEMS:
            return (self._text(name, value, "a text or a number"),)
        allowed = f"texts, as a list{'' if name == 'hosts' else ', or a table'}"
        if isinstance(value, Mapping) and name != "hosts":
            items = [f"{key}={self._item(name, key, one)}" for key, one in value.items()]
        elif isinstance(value, list):
            items = [self._text(name, one, allowed) for one in value]
        else:
            items = [self._text(name, value, allowed)]
        joint = ITEMS[name]
        if not items:
            self._refuse_value(name, value, f"{allowed}, or leave it out")
        return (joint.join(items),) if joint else tuple(items)

    def _command(self, extra: Mapping[str, Any]) -> tuple[str, ...]:
        own = extra.get("args", [])
        if not isinstance(own, list):
            self._refuse_value("args", own, 'a list, as ["--epochs", "5"]')
        given = [name for name in ("script", "module") if name in extra]
        if len(given) == 2:
            self._refuse("script and module; give one of them")
        if not given:
            if own:
                self._refuse("args without script or module, whose they are; give one")
            return ()
        name = self._text(given[0], extra[given[0]], "a text")
        words = tuple("" if one == "" else self._text("args", one, "texts") for one in own)
        return (name, *words) if given == ["script"] else ("-m", name, *words)


def _shown(value: object) -> str:
    """A value as a message has it; TOML's dates stand as they are."""
    is_json = isinstance(value, str | bool | list | dict)
    return json.dumps(value, default=str) if is_json else str(value)


def _lowered(value: object) -> object:
    """A truth value as plug's options have it."""
    return str(value).lower() if isinstance(value, bool) else value


def _table(path: str) -> Mapping[Any, Any]:
    readers: dict[str, Callable[[str], Any]] = {
        ".toml": tomllib.loads,
        ".yaml": _yaml,
        ".yml": _yaml,
    }
    reader = readers.get(Path(path).suffix)
    if reader is None:
        raise ClusterError(f"--config {path}: give a file that ends in .toml, .yaml or .yml")
    try:
        table = reader(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterError(f"--config {path}: it cannot be read: {error.strerror}") from error
    except ValueError as error:  # of tomllib, _yaml, or bytes that are no UTF-8
        raise ClusterError(f"--config {path}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ClusterError(
            f"--config {path}: lists in lists, too deep to be read; write them flatter"
        ) from error
    if not isinstance(table, Mapping):
        raise ClusterError(f"--config {path}: no keys with values in it, as workers: 2")
    return table


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ClusterError(
            f"YAML needs PyYAML ({error}): pip install 'tfdist[yaml]', or write TOML"
        ) from error

    class Loader(yaml.BaseLoader):
        """Scalars as texts, and no key twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            twice: Sequence[Any] = [key for n, key in enumerate(keys) if key in keys[:n]]
            if twice:
                raise ValueError(f"{twice[0]} twice; give it once")
            mapping: dict[Any, Any] = super().construct_mapping(node, deep)
            return mapping

    try:
        return yaml.load(text, Loader) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
