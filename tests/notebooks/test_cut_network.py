"""What notebook 04 has recorded of a cut network still happens."""

from __future__ import annotations

import pytest

from tests.notebooks.cut_network import CUT_AT, EPOCHS, record
from tfdist.diagnose.namespace_hosts import reason_against


@pytest.mark.thorough
@pytest.mark.timeout(400)
def test_both_sides_name_each_other_and_go_on_where_the_cable_was_pulled() -> None:
    if reason := reason_against():
        pytest.skip(reason)
    recording = record()
    assert recording.codes == (0, 0), recording.said
    assert len(recording.losses) == EPOCHS
    for host, other in ((0, "worker:1"), (1, "worker:0")):
        named = [said for _, at, said in recording.said if at == host and "said nothing" in said]
        assert any(f"it waits for {other}" in said for said in named), recording.said
        assert [epoch for _, epoch in recording.epochs[host]] == [
            *range(CUT_AT + 1),
            *range(CUT_AT, EPOCHS),
        ]
