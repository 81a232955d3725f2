"""What a message must look like before anybody reads it: JSON, whole, and of the right types."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, get_args

from tfdist.rendezvous.cards import Holding

__all__ = ["Message", "read_message"]

Message = dict[str, Any]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31


def _is_seed(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_holding(value: Any) -> bool:
    return value in get_args(Holding)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_count_or_left_out(value: Any) -> bool:
    return value is None or _is_seed(value)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


_FORMS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "status": {"round": _is_number, "missing": _is_texts, "more": _is_count_or_left_out},
    "here": {"round": _is_number},
    "go": {"seed": _is_seed, "holding": _is_holding},
    "stop": {"error": _is_text, "text": _is_text},
    "ended": {"well": _is_truth, "text": _is_text},
    "asked to end": {"by": _is_text},
}
"""What a message of a kind must have; whoever reads a kind that is not here checks it itself."""


def read_message(body: bytes) -> Message:
    """Reads a message, and believes nothing of it.

    Args:
        body: Of a frame, without its seal.

    Returns:
        An object that has a text `say`, and what one that says so must have.

    Raises:
        ValueError: It is none; the text says what it is, as "a message that is not JSON".
    """
    try:
        text = body.decode()
        message = json.loads(text, object_pairs_hook=_once, parse_constant=_refused)
        if "\\u" in text:  # how half a character can come, which no log can show
            json.dumps(message, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("a message that is not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("say"), str):
        raise ValueError("a message that says nothing")
    for name, is_right in _FORMS.get(message["say"], {}).items():
        if not is_right(message.get(name)):
            raise ValueError(f"a word {message['say']!r} without its {name}")
    return message


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _refused(constant: str) -> NoReturn:
    raise ValueError(constant)
