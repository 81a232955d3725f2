"""The API's page has every public name, and each says what it takes."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import pytest

import tfdist
from tests.docs.pages import DOCS

# Of these modules users call a part; the rest is for those who read the code.
PARTS = {
    "callbacks": tfdist.callbacks.__all__,
    "environments": ["Environment", "detect_cluster"],
    "launch": ["JobResult", "local_cluster", "run_job"],
    "optimize": tfdist.optimize.__all__,
    "pipeline": ["Timings", "draw", "measure", "measure_costs"],
}
# What has no entry of its own, and where it is described instead.
ELSEWHERE = {
    "errors": "listed as a whole",
    "notebook": "its `run` is `tfdist.run`; functions.md tells of `%%tfdist`",
    "__version__": "the command `tfdist --version`",
}


def public() -> dict[str, object]:
    """The public functions and classes, by the names that users write."""
    found: dict[str, object] = {}
    for name in tfdist.__all__:
        value = getattr(tfdist, name)
        if isinstance(value, ModuleType):
            assert name in {*PARTS, *ELSEWHERE}, f"tfdist.{name} is a new module: on which page?"
            found |= {f"tfdist.{name}.{one}": getattr(value, one) for one in PARTS.get(name, ())}
        elif name not in ELSEWHERE:
            found[f"tfdist.{name}"] = value
    return found


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    page = set(re.findall(r"^::: (tfdist[\w.]*)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    assert page - {"tfdist.errors"} == public().keys()


@pytest.mark.parametrize("name", [name for name, one in public().items() if callable(one)])
def test_a_public_function_says_what_it_takes(name: str) -> None:
    value: Any = public()[name]
    told = inspect.getdoc(value) or ""
    function = value.__init__ if inspect.isclass(value) else value
    told += inspect.getdoc(function) or ""
    taken = [
        one.name
        for one in inspect.signature(function).parameters.values()
        if one.name not in ("self", "args", "kwargs") and one.kind is not one.VAR_KEYWORD
    ]
    assert told
    assert not [one for one in taken if not re.search(rf"\b{one}\b", told)], name
