"""The secret of a job: what its tasks prove to each other to know, and never send."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tfdist.errors import ClusterError

__all__ = ["NO_SECRET", "Secret"]

_LEAST = 16
_MOST = 4096
_HOW = "give 16 characters or more that nobody can guess, as `openssl rand -hex 32` makes them"


@dataclass(frozen=True)
class Secret:
    """A job's secret; without a word there is none, and a proof proves nothing.

    Attributes:
        word: The secret itself, 16 to 4,096 characters, or "". It is in no text of this object.
    """

    word: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.word and not _LEAST <= len(self.word) <= _MOST:
            raise ClusterError(f"secret of {len(self.word)} characters; {_HOW}")

    @classmethod
    def random(cls) -> Secret:
        """Returns a new one."""
        return cls(secrets.token_hex(32))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Secret:
        """Reads a secret from a file, without the white space around it.

        Args:
            path: A file that nobody but its owner can read.

        Raises:
            ClusterError: It cannot be read, is open to others, or holds no secret.
        """
        try:
            with Path(path).open("rb") as file:
                others = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077
                data = file.read(_MOST + 2)
        except OSError as error:
            raise ClusterError(
                f"secret file {path} that cannot be read ({error.strerror}); give another one"
            ) from None
        if others:
            raise ClusterError(f"secret file {path} that others can open; chmod 600 it")
        word = os.fsdecode(data.strip())
        if not word:
            raise ClusterError(f"secret file {path} that is empty; {_HOW}")
        return cls(word)

    def __bool__(self) -> bool:
        return bool(self.word)

    def keyed(self, *parts: bytes) -> bytes:
        """Returns 32 bytes that only who knows the secret can make of these parts.

        Args:
            parts: Each of a length that is always the same, so that they cannot be shifted.
        """
        return hmac.digest(os.fsencode(self.word), b"".join(parts), "sha256")


NO_SECRET = Secret()
"""That of a job whose tasks prove nothing to each other."""
