"""The changes that cosmic-ray makes to a file, one at a time, but for those that change nothing.

Of the many operators by which cosmic-ray replaces one another a few stand for all.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

__all__ = ["Change", "changes_of"]

_COMPARISONS = {
    "Eq": ("NotEq",),
    "NotEq": ("Eq",),
    "Lt": ("LtE", "GtE"),
    "LtE": ("Lt", "Gt"),
    "Gt": ("GtE", "LtE"),
    "GtE": ("Gt", "Lt"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
_ARITHMETIC = {
    "Add": ("Sub",),
    "Sub": ("Add",),
    "Mul": ("FloorDiv", "Add"),
    "Div": ("Mul",),
    "FloorDiv": ("Mul", "Mod"),
    "Mod": ("FloorDiv",),
    "BitOr": ("BitAnd",),
    "BitAnd": ("BitOr",),
    "LShift": ("RShift",),
}
OPERATORS = (
    *(f"ReplaceComparisonOperator_{a}_{b}" for a, those in _COMPARISONS.items() for b in those),
    *(f"ReplaceBinaryOperator_{a}_{b}" for a, those in _ARITHMETIC.items() for b in those),
    "ReplaceUnaryOperator_USub_UAdd",
    "ReplaceUnaryOperator_Delete_Not",
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
)


@dataclass(frozen=True)
class Change:
    """One change of one file.

    Attributes:
        path: the file.
        line: where.
        operator: what cosmic-ray calls it.
        source: the whole file after it.
        before: the line as it was.
        after: the line as it is.
    """

    path: Path
    line: int
    operator: str
    source: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: `{self.before}` -> `{self.after}` ({self.operator})"


def changes_of(path: Path) -> Iterator[Change]:
    """Yields every change of a file that Python does not see as the file itself, or as another."""
    code = path.read_text()
    seen = {_meaning(code)}
    tree = get_ast(code)
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        places = [place for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
        for occurrence, ((line, _), _) in enumerate(places):
            changed = mutate_code(code, operator, occurrence)
            meaning = None if changed is None else _meaning(changed)
            if changed is None or meaning is None or meaning in seen:
                continue
            seen.add(meaning)
            pairs = zip(code.splitlines(), changed.splitlines(), strict=False)
            before, after = next(((a, b) for a, b in pairs if a != b), ("", ""))
            yield Change(path, line, name, changed, before.strip(), after.strip())


def _meaning(code: str) -> str | None:
    """What Python runs: the code without annotations, which are never evaluated; None for none."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(0)
    return ast.dump(tree)
