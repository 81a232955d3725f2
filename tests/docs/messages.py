"""Every message of tfdist's errors, read from its source, with what to do about it.

    python -m tests.docs.messages            prints those without an advice, and those not read

A message is what an error of `tfdist.errors` is made with. What a program fills in is shown as
…; text that stands in a constant, in a function or in a variable beside is followed to there.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT
from tfdist import errors

GAP = "…"
_ERRORS = {name for name, one in vars(errors).items() if inspect.isclass(one)}
_BECOME = {
    "ArgumentTypeError": "ClusterError",
    "NoStunnel": "LaunchError",
    "NotAllowed": "LaunchError",
    "Trouble": "ClusterError",
}
"""What is made first, and which error says it then."""
_TELLERS = {
    "compat/versions.py": ("refusal", "PlugError"),
    "launch/hosts/survey.py": ("faults", "ClusterError"),
    "launch/nodes/node_meeting.py": ("_missing", "RendezvousTimeout"),
    "rendezvous/handshake.py": ("difference", "RendezvousMismatch"),
    "rendezvous/wording.py": ("late_text", "RendezvousTimeout"),
}
"""Functions whose texts become errors elsewhere, by their files in tfdist/."""
_TABLES = {
    "launch/hosts/ssh_command.py": ("_KNOWN", "host … ", "ClusterError"),
    "training/data/fingerprint.py": (
        "_WHY",
        "the workers read different data in the same step: ",
        "DataError",
    ),
}
"""Constants that hold ends of messages, and how these begin."""
_VERBS = (
    "add|ask|batch|begin|build|call|chmod|choose|compile|connect|count|delete|do|end|freeze|"
    "get|give|install|keep|leave|let|list|look|make|map|mend|move|name|open|or|override|plug|"
    "predict|press|put|raise|repeat|retry|return|run|save|say|see|seed|set|split|start|submit|"
    "take|train|unset|use|wait|watch|write"
)
_ORDER = re.compile(
    rf"(?:{_VERBS}|\.repeat|pip)\b|[\w', ]+ must\b"
    r"|(?:it is one of|it has|ranks go|the [\w ]+ are) ",
    re.IGNORECASE,
)
"""How a message goes on where it says what to do, or what is allowed."""


@dataclasses.dataclass(frozen=True, order=True)
class Message:
    """What one error says.

    Attributes:
        text: as raised, with … where the program fills something in.
        error: the name of its class.
        file: where it is raised, from the root of the repository.
        line: of that file, from 1.
    """

    text: str
    error: str
    file: str
    line: int

    def parts(self) -> tuple[str, str]:
        """What happened, and what to do about it; "" where the two are not apart."""
        ends = [at for at in re.finditer("[;:] ", self.text) if _ORDER.match(self.text, at.end())]
        if not ends:
            return self.text, ""
        return self.text[: ends[0].start()], self.text[ends[0].end() :]

    def is_passed_on(self) -> bool:
        """Whether almost all is filled in, so that the text stands, and is listed, elsewhere."""
        return len(re.sub(r"\W", "", self.text)) < 6

    def fits(self, said: str) -> bool:
        """Whether this is the message that somebody has seen."""
        parts = [re.escape(part) for part in self.text.split(GAP)]
        return bool(re.fullmatch(".*?".join(parts), " ".join(said.split())))


class _Source:
    """A module, in which names of texts are followed to where they stand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text())
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }
        self.functions = {
            node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)
        }

    def messages(self) -> Iterator[Message]:
        """Those of every error that is made here."""
        name = str(self.path.relative_to(ROOT))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and (error := _called(node)) in {*_ERRORS, *_BECOME}:
                for text in self.texts(node.args[0] if node.args else None, node):
                    yield Message(text, _BECOME.get(error, error), name, node.lineno)
        yield from self._told_elsewhere(name)

    def _told_elsewhere(self, name: str) -> Iterator[Message]:
        teller, error = _TELLERS.get(name.removeprefix("tfdist/"), ("", ""))
        if teller:
            function = self.functions[teller]
            body = function.body[1:]  # the docstring is none of it
            for node in (one for line in body for one in ast.walk(line)):
                if isinstance(node, ast.JoinedStr):
                    for text in self.texts(node, node):
                        if len(text) > 40:
                            yield Message(text, error, name, node.lineno)
        table, begin, error = _TABLES.get(name.removeprefix("tfdist/"), ("", "", ""))
        for made in self.tree.body if table else ():
            if isinstance(made, ast.Assign | ast.AnnAssign) and _id(_targets(made)[0]) == table:
                for node in ast.walk(made.value) if made.value else ():
                    if isinstance(node, ast.Constant) and ": " in str(node.value):
                        text = re.sub(r"{\w+}", GAP, str(node.value))
                        yield Message(begin + text, error, name, node.lineno)

    def texts(self, node: ast.expr | None, inside: ast.AST, deep: int = 0) -> list[str]:
        """What an expression may say."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.JoinedStr):
            return _joined([self.texts(value, inside, deep) for value in node.values])
        if isinstance(node, ast.FormattedValue):
            return self.texts(node.value, inside, deep + 2)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return _joined([self.texts(side, inside, deep) for side in (node.left, node.right)])
        if isinstance(node, ast.IfExp):
            return [*self.texts(node.body, inside, deep), *self.texts(node.orelse, inside, deep)]
        if isinstance(node, ast.Name):
            return self._named(node.id, inside, deep)
        if isinstance(node, ast.Call) and deep < 2:
            function = self.functions.get(_called(node))
            returned = (
                [one.value for one in ast.walk(function) if isinstance(one, ast.Return)]
                if (function)
                else []
            )
            found = [text for one in returned for text in self.texts(one, one or inside, deep + 1)]
            return list(dict.fromkeys(found)) or [GAP]
        return [GAP]

    def _named(self, name: str, inside: ast.AST, deep: int) -> list[str]:
        """What a variable of the function around, or a constant of the module, may say."""
        around: ast.AST | None = inside
        while around is not None:
            if isinstance(around, ast.Module) or (isinstance(around, ast.FunctionDef) and deep < 2):
                found = [
                    text
                    for node in ast.walk(around)
                    if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
                    and any(_id(target) == name for target in _targets(node))
                    and not (
                        isinstance(around, ast.Module) and self.parents.get(node) is not around
                    )
                    for text in self.texts(node.value, node, deep + 1)
                ]
                if found:
                    return list(dict.fromkeys(found))
            around = self.parents.get(around)
        return [GAP]


def _called(node: ast.Call) -> str:
    function = node.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _targets(node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _id(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _joined(parts: list[list[str]]) -> list[str]:
    """Every way to put the parts together; one gap where many would be, and no more than four."""
    whole = [""]
    for part in parts:
        choices = part if len(whole) * len(part) <= 4 else [GAP]
        whole = [left + right for left in whole for right in choices]
    return [re.sub(r"\s+", " ", re.sub(f"{GAP}+", GAP, text)) for text in whole]


@functools.cache
def every_message() -> tuple[Message, ...]:
    """All that errors of tfdist say, in the order of the alphabet."""
    found = {
        (message.text, message.error, message.file): message
        for path in sorted((ROOT / "tfdist").rglob("*.py"))
        for message in _Source(path).messages()
    }
    return tuple(sorted(found.values(), key=lambda one: (_key(one.text), one)))


def _key(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()


def main() -> None:
    """Prints what a person must look at."""
    for message in every_message():
        if not message.parts()[1]:
            print(f"{message.file}:{message.line}: {message.error}: {message.text}")


if __name__ == "__main__":
    main()
