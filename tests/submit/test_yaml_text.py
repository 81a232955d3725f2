"""What is written as YAML is read as what it was, whatever the text."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.errors import ClusterError
from tfdist.submit.yaml_text import Plain, yaml_text

# Any text of whole characters, and what structure is made of, in one.
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    "ab: -#\n\t\"'\\{}[],&*!|>%@`$~=1."
)
LEAVES = TEXT | st.integers() | st.booleans()
DATA = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXT, DATA, min_size=1, max_size=4), st.booleans())
def test_what_is_written_is_read_again(data: dict[str, Plain], commented: bool) -> None:
    text = yaml_text(data, "why" if commented else "")
    assert yaml.safe_load(text) == data
    assert len(list(yaml.safe_load_all(f"{text}---\n{text}"))) == 2


@pytest.mark.parametrize(
    "word",
    [
        *("yes", "No", "ON", "off", "y", "N", "true", "null", "NULL", "~", "", "1", "1e3", "0x1f"),
        *("12:30:00", "2001-01-01", ".inf", ".nan", "=", "<<", "- a", "a: b", "a #b", "---", "..."),
        *("!!python/object:os.system", "&a", "*a", "%YAML", "a\n---\nkind: Pod", "\ufeff", "\x85"),
    ],
)
def test_words_that_could_be_something_else_are_strings(word: str) -> None:
    assert yaml.safe_load(yaml_text({word: word, "list": [word]})) == {word: word, "list": [word]}
    assert '"' in yaml_text({"key": word})


def test_people_can_read_it() -> None:
    data: dict[str, Plain] = {
        "kind": "Job",
        "spec": {"labels": {"a.b/c": "fit-0"}, "drop": ["ALL"], "empty": {}, "none": []},
        "rules": [{"action": "Ignore", "on": [{"type": "Lost", "status": "True"}]}, [1, [2]]],
    }
    assert yaml_text(data, "A job.").splitlines() == [
        "# A job.",
        "kind: Job",
        "spec:",
        "  labels:",
        "    a.b/c: fit-0",
        "  drop: [ALL]",
        "  empty: {}",
        "  none: []",
        "rules:",
        "- action: Ignore",
        '  "on":',
        "  - type: Lost",
        '    status: "True"',
        "- - 1",
        "  - [2]",
    ]


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"'\\udc80' in a manifest, which is no text"):
        yaml_text({"a": "\udc80"})
