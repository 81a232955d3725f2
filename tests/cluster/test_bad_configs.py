"""Every mistake in TF_CONFIG is one clear error, at once."""

from __future__ import annotations

import re

import pytest

from tests.cluster.bad_configs import CASES, BadConfig, a_busy_port, main, try_out
from tests.machine.names import Names


@pytest.mark.parametrize("case", CASES, ids=lambda case: re.sub(r"[^a-z0-9]+", "_", case.name))
def test_a_bad_config_is_refused_in_under_a_second(case: BadConfig, names: Names) -> None:
    names({"node-1": "198.51.100.1", "localhost": "127.0.0.1"})
    with a_busy_port() as busy:
        message, seconds = try_out(case, busy)
    assert message is not None, "accepted"
    said = [part.replace("{busy}", str(busy)) for part in case.says]
    assert re.search(".*".join(map(re.escape, said)), message), message
    assert seconds < 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: re.sub(r"[^a-z0-9]+", "_", case.name))
def test_a_message_is_one_or_two_sentences_that_say_what_to_do(
    case: BadConfig, names: Names
) -> None:
    names({})
    with a_busy_port() as busy:
        message, _ = try_out(case, busy)
    assert message is not None
    assert "\n" not in message
    assert len(message) < 300
    assert "; " in message  # what was given; what to do


def test_the_table_of_bad_configs_is_printed(
    capsys: pytest.CaptureFixture[str], names: Names
) -> None:
    names({})
    main()
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| mistake | message | ms |"
    assert len(table) == 2 + len(CASES)
    assert "(accepted)" not in "".join(table)
