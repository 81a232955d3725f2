"""The stunnel of this machine, and whether it will do."""

from __future__ import annotations

import re
import shutil
import subprocess

__all__ = ["NoStunnel", "find_stunnel", "missing_of"]

_NAMES = ("stunnel", "stunnel4")
_NEEDED = {"PSK": "keys that were agreed on beforehand (PSK)", "SYSTEMD": "sockets handed over"}
_OLDEST = (1, 1, 1)  # OpenSSL with TLS 1.3


class NoStunnel(Exception):
    """There is none that would do; the text says why, and what to do."""


def find_stunnel() -> str:
    """Finds the program.

    Returns:
        Its path.

    Raises:
        NoStunnel: There is none, or it cannot do what is needed.
    """
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise NoStunnel("stunnel is not installed; install it (Debian: stunnel4, Fedora: stunnel)")
    try:
        done = subprocess.run(
            [path, "-version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoStunnel(f"{path} does not run ({error}); install another one") from None
    if missing := missing_of(done.stderr + done.stdout):
        raise NoStunnel(f"{path} is without {missing}; install one that has it")
    return path


def missing_of(version: str) -> str:
    """What a stunnel lacks; "" where it has all.

    Args:
        version: What `stunnel -version` says.
    """
    openssl = re.search(r"Running\s+with OpenSSL (\d+)\.(\d+)\.(\d+)", version) or re.search(
        r"[Cc]ompiled(?:/running)? with OpenSSL (\d+)\.(\d+)\.(\d+)", version
    )
    if openssl is None or tuple(map(int, openssl.groups())) < _OLDEST:
        return "OpenSSL 1.1.1 or later"
    built = re.search(r"^Threading:.*$", version, re.MULTILINE)
    words = set(re.split(r"[\s:,]+", built.group())) if built is not None else set()
    return ", ".join(what for word, what in _NEEDED.items() if word not in words)
