"""Messages that no task of a job sends, made up from a seed: bytes, frames and sealed frames."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tfdist.rendezvous.messages import MAGIC, MAX_BYTES

__all__ = ["framed", "malformed", "strange_bytes"]

NO_TEXT: list[Any] = [None, True, 3, -1.5, [], {}, ["x"], {"x": 1}]
NO_NUMBER: list[Any] = [None, True, "3", [], {}, [3], 1 << 70, -(1 << 70), "x" * 999]
NO_MAPPING: list[Any] = [None, False, 1, "x", [], [["worker", ["a:1"]]]]
NO_TRUTH: list[Any] = [None, 0, 1, "true", [], {}]
WRONG: dict[str, dict[str, list[Any]]] = {
    "hello": {
        "say": ["hullo", "", *NO_TEXT],
        "task": ["worker:99", "", "x" * 9999, *NO_TEXT],
        "jobs": [*NO_MAPPING, {"worker": "a:1"}, {"worker": [1]}, {"worker": None}],
        "kind": NO_TEXT,
        "versions": [*NO_MAPPING, {"keras": 3}, {"keras": None}],
        "timeout": [*NO_NUMBER, -1],
        "remaining": [*NO_NUMBER, -1],
        "pid": [*NO_NUMBER, -1, 1.5],
        "host": NO_TEXT,
        "token": NO_TEXT,
        "protocol": [*NO_NUMBER, -1, 1.5],
        "refusal": NO_TEXT,
        "cards": ["x", 1, {}, True, [1], [None], [["GPU-1"]]],
    },
    "status": {"round": NO_NUMBER, "missing": [None, "x", {}, 1, [1], [None], [["worker:1"]]]},
    "go": {
        "seed": [*NO_NUMBER, -1, 1.5, 1 << 31],
        "holding": ["x", "", 1, {}, True, ["own"]],
    },
    "stop": {"error": NO_TEXT, "text": NO_TEXT},
    "ended": {"well": NO_TRUTH, "text": NO_TEXT},
    "challenge": {"nonce": ["", "0" * 31, "z" * 32, *NO_TEXT]},
    "proof": {"proof": ["", "0" * 63, "f" * 64, "z" * 64, *NO_TEXT]},
}
"""What must not stand in each field of each kind of message."""

MAY_BE_MISSING = ("refusal", "cards")
"""Other versions of tfdist, who are to be told that they are others, may not know these."""

RIGHT: dict[str, dict[str, Any]] = {
    "status": {"round": 1, "missing": ["worker:1"]},
    "go": {"seed": 1, "holding": "own"},
    "stop": {"error": "mismatch", "text": "x"},
    "ended": {"well": True, "text": ""},
    "challenge": {"nonce": "0" * 32},
    "proof": {"proof": "0" * 64},
}


def framed(body: bytes) -> bytes:
    return MAGIC + len(body).to_bytes(4, "big") + body


def malformed(chance: random.Random, hello: dict[str, Any], says: tuple[str, ...]) -> bytes:
    """The body of a message that is none, or has something wrong in one of its fields.

    Args:
        chance: What is drawn from.
        hello: A hello that is right.
        says: The kinds of which one field may be wrong.
    """
    say = chance.choice(says)
    message = {**(hello if say == "hello" else RIGHT[say]), "say": say}
    name = chance.choice(sorted(WRONG[say]))
    if chance.random() < 0.6:
        if chance.random() < 0.2 and name not in MAY_BE_MISSING:
            del message[name]
        else:
            message[name] = chance.choice(WRONG[say][name])
        return json.dumps(message).encode()
    text = json.dumps(message)
    field = f'"{name}": '
    makers: list[Callable[[], bytes]] = [
        lambda: b"[" * chance.randrange(2_000, 60_000),
        lambda: b'{"say": ' * 9_000 + b"1" + b"}" * 9_000,
        lambda: (text[:-1] + ', "more": ' + "[" * 5_000 + "]" * 5_000 + "}").encode(),
        lambda: (text[:-1] + f', "say": "{say}"}}').encode(),  # twice
        lambda: text.replace(field, f'{field}NaN, "was": ').encode(),
        lambda: text.replace(field, f'{field}-Infinity, "was": ').encode(),
        lambda: text.replace(field, f'{field}1e999, "was": ').encode(),
        lambda: text.replace(field, f'{field}{"9" * 5_000}, "was": ').encode(),
        lambda: text.replace(field, f'{field}"\\ud800", "was": ').encode(),
        lambda: text.encode("utf-16"),
        lambda: text.encode() + b"\xff",
        lambda: text[: chance.randrange(len(text))].encode(),
        lambda: chance.randbytes(chance.randrange(200)),
        lambda: chance.choice([b"", b"null", b"[]", b'""', b"0", b"{}", b'{"say": 1}']),
    ]
    return chance.choice(makers)()


def strange_bytes(
    chance: random.Random, hello: dict[str, Any], says: tuple[str, ...], recorded: list[bytes]
) -> bytes:
    """What somebody sends who does not know the secret.

    Args:
        chance: What is drawn from.
        hello: An opening that is right, but without a proof.
        says: The kinds of which one field may be wrong.
        recorded: What has been heard of another connection, in its pieces.
    """
    opening = framed(json.dumps(hello).encode())
    whole = b"".join(recorded)
    place = chance.randrange(len(whole))
    changed = bytearray(whole)
    changed[place] ^= 1 << chance.randrange(8)
    guess = json.dumps({"say": "proof", "proof": chance.randbytes(32).hex()}).encode()
    makers: list[Callable[[], bytes]] = [
        lambda: chance.randbytes(chance.randrange(1, 2_000)),
        lambda: MAGIC + chance.randbytes(chance.randrange(200)),
        lambda: MAGIC[: chance.randrange(1, len(MAGIC))],
        lambda: opening[: chance.randrange(len(opening))],
        lambda: MAGIC + chance.choice([MAX_BYTES, 1 << 31, (1 << 32) - 1]).to_bytes(4, "big"),
        lambda: framed(b"x" * chance.randrange(65_536, 200_000)),
        lambda: framed(malformed(chance, hello, says)),
        lambda: opening + framed(malformed(chance, hello, ("proof",))),
        lambda: opening + framed(guess),
        lambda: opening + opening,
        lambda: whole,
        lambda: whole[:place],
        lambda: bytes(changed),
        lambda: b"".join(chance.sample(recorded, len(recorded))),
        lambda: opening + recorded[-1],
        lambda: chance.choice([b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n"]),
    ]
    return chance.choice(makers)()
