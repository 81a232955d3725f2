"""What is broken is told, each really made: the line that matters, and what to do."""

from __future__ import annotations

import pytest

from tests.diagnose.doctor.broken import BROKEN, Broken, made
from tfdist.diagnose.namespace_hosts import reason_against
from tfdist.diagnose.small_disk import no_small_disk

pytestmark = pytest.mark.timeout(90)


def marked(broken: Broken) -> object:
    marks = [pytest.mark.thorough] if broken.needs else []
    return pytest.param(broken, id=broken.name.replace(" ", "-"), marks=marks)


@pytest.mark.parametrize("broken", [marked(one) for one in BROKEN])
def test_it_is_told_with_what_to_do(broken: Broken) -> None:
    if broken.needs == "root" and (why := no_small_disk()):
        pytest.skip(why)
    if broken.needs == "hosts" and (why := reason_against()):
        pytest.skip(why)
    told = made(broken)
    assert len(broken.findings(told)) == 1, told["findings"]
    assert told["well"] == (broken.level != "bad")
