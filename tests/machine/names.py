"""A name server of the tests' own."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

Names = Callable[[dict[str, str | None]], None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """`names({"node-1": "10.0.0.1", "slow": None})`: the names there are; None never answers."""
    real = socket.getaddrinfo

    def use(table: dict[str, str | None]) -> None:
        def look_up(host: Any, *args: Any, **options: Any) -> Any:
            if host not in table:
                if isinstance(host, str) and any(letter.isalpha() for letter in host):
                    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
                return real(host, *args, **options)
            ip = table[host]
            if ip is None:
                time.sleep(1.5)  # longer than anybody may wait, short enough for the thread to end
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return real(ip, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return use
