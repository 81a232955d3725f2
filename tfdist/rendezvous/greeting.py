"""The first words on a connection: both sides prove that they know the job's secret.

    newcomer ──hello (a nonce, nothing secret)──► chief
             ◄──challenge (another nonce)──────── │
             ──proof──────────────────────────►   │ wrong: refused, and nobody else is troubled
             ◄──proven (the chief's own proof)─── │
             ◄══ sealed messages ════════════► both ways

A proof is an HMAC-SHA256 under the secret over both nonces, and what has been recorded of one
connection proves nothing on another. From then on each message carries a seal: an HMAC under a key
of this connection and direction, over the number of the message and the message, so that none can
be made up, changed, left out or repeated. Nothing is encrypted.

Without a secret the words are the same, under an empty key, and prove nothing.

The hello names the version of the rendezvous, and has the form that version 1 reads, so that the
two can tell their users what is wrong.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import Protocol

from tfdist.cluster.secret import Secret
from tfdist.rendezvous.handshake import PROTOCOL, Handshake, plain
from tfdist.rendezvous.messages import Message, Refusal, Stranger
from tfdist.rendezvous.seals import Seals

__all__ = ["Greeting", "Host", "Newcomer"]

_NONCE = re.compile(r"[0-9a-f]{32}")
_PROOF = re.compile(r"[0-9a-f]{64}")
_ADVICE = "give every task the same TFDIST_SECRET or TFDIST_SECRET_FILE"
_Heard = tuple[Message | None, Seals | None]


class Greeting(Protocol):
    """One side of it."""

    def begin(self) -> Message | None:
        """Returns what this side says first; None where it waits for the other."""

    def hear(self, message: Message) -> _Heard:
        """Takes the other side's next word.

        Returns:
            What to answer, and then the seals of all that follows where both have proven.

        Raises:
            Refusal: The other side has not proven to belong to the job.
            Stranger: That is no word of a greeting.
        """


@dataclass
class Newcomer:
    """The side that has come to the chief.

    Attributes:
        handshake: Its own.
        secret: The job's, as it knows it.
        visit: What it has come for, where it does not take part: "doctor" to say what it has seen,
            "probe" to see whether somebody is there. No meeting fails of a visitor.
    """

    handshake: Handshake
    secret: Secret
    visit: str = ""
    _nonce: str = field(default_factory=lambda: secrets.token_hex(16), init=False)
    _keys: _Keys | None = field(default=None, init=False)

    def begin(self) -> Message:
        """Returns the hello: all that is told to somebody who may be anybody."""
        nothing = replace(self.handshake, jobs={}, versions={}, cards=None)
        hello = replace(nothing, kind="", token="", refusal="", digest="")
        own = {"nonce": self._nonce, "secret": bool(self.secret), "visit": self.visit}
        return {**hello.to_message(), **own}

    def hear(self, message: Message) -> _Heard:
        """See `Greeting`."""
        said = message["say"]
        if said == "stop":
            raise Refusal(plain(message["text"], 1000))
        if said == "challenge" and self._keys is None:
            self._keys = _Keys.of(self.secret, self._nonce, _word(message, "nonce", _NONCE))
            return {"say": "proof", "proof": self._keys.newcomers}, None
        if said == "proven" and self._keys is not None:
            if not hmac.compare_digest(_word(message, "proof", _PROOF), self._keys.hosts):
                raise Refusal(f"it does not know this task's secret; {_ADVICE}")
            return None, Seals(self._keys.to_host, self._keys.to_newcomer)
        raise Stranger(f"something that said {plain(said)!r}")


@dataclass
class Host:
    """The chief's side.

    Attributes:
        handshake: The chief's own.
        secret: The job's.
    """

    handshake: Handshake
    secret: Secret
    _nonce: str = field(default_factory=lambda: secrets.token_hex(16), init=False)
    _guest: str = field(default="", init=False)
    _visit: str = field(default="", init=False)
    _keys: _Keys | None = field(default=None, init=False)

    def begin(self) -> None:
        """Waits for the newcomer's hello."""

    def hear(self, message: Message) -> _Heard:
        """See `Greeting`."""
        if self._keys is None:
            return self._challenge(message), None
        if message["say"] != "proof":
            raise Stranger("a message that is no proof")
        if not hmac.compare_digest(_word(message, "proof", _PROOF), self._keys.newcomers):
            raise self._refusal(f"with another secret than {self.handshake.task}'s")
        answer = {"say": "proven", "proof": self._keys.hosts}
        return answer, Seals(self._keys.to_newcomer, self._keys.to_host)

    def _challenge(self, message: Message) -> Message:
        hello = Handshake.from_message(message)
        if hello is None:
            raise Stranger("a message that is no hello")
        self._guest = f"{hello.task} ({hello.who})"
        self._visit = plain(str(message.get("visit", "")))
        if hello.protocol != PROTOCOL:
            text = str(replace(hello, refusal="").difference(self.handshake))
            raise self._refused(text)
        with_secret = message.get("secret")
        if not isinstance(with_secret, bool):
            raise Stranger("a message that is no hello")
        if with_secret and not self.secret:
            raise self._refusal(f"with a secret, {self.handshake.task} has none")
        if self.secret and not with_secret:
            raise self._refusal(f"without a secret, {self.handshake.task} has one")
        self._keys = _Keys.of(self.secret, _word(message, "nonce", _NONCE), self._nonce)
        return {"say": "challenge", "nonce": self._nonce}

    def _refusal(self, how: str) -> Refusal:
        return self._refused(f"{self._guest} came {how}; {_ADVICE}")

    def _refused(self, text: str) -> Refusal:
        return Refusal(text, {"say": "stop", "error": "mismatch", "text": text}, self._visit)


@dataclass(frozen=True)
class _Keys:
    """What both sides make of the secret and their nonces."""

    newcomers: str
    hosts: str
    to_host: bytes
    to_newcomer: bytes

    @classmethod
    def of(cls, secret: Secret, newcomers_nonce: str, hosts_nonce: str) -> _Keys:
        def derived(what: bytes) -> bytes:
            return secret.keyed(nonces, what)

        nonces = bytes.fromhex(newcomers_nonce) + bytes.fromhex(hosts_nonce)
        return cls(
            derived(b"proof of newcomer").hex(),
            derived(b"proof of host").hex(),
            derived(b"key to host"),
            derived(b"key to newcomer"),
        )


def _word(message: Message, name: str, pattern: re.Pattern[str]) -> str:
    word = message.get(name)
    if not isinstance(word, str) or not pattern.fullmatch(word):
        raise Stranger(f"a {message['say']} without its {name}")
    return word
