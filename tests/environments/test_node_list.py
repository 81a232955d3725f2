"""Compact lists of hosts name what Slurm's own command says that they name."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.environments.node_list import expand
from tfdist.errors import ClusterError

LISTS = {
    "a": ["a"],
    "a,b": ["a", "b"],
    "host[0-2,5]": ["host0", "host1", "host2", "host5"],
    "n[08-11],login": ["n08", "n09", "n10", "n11", "login"],
    "r[1-2]n[1,3]-ib": ["r1n1-ib", "r1n3-ib", "r2n1-ib", "r2n3-ib"],
}


@pytest.mark.parametrize("text", LISTS)
def test_a_list_names_its_hosts(text: str) -> None:
    assert list(expand(text)) == LISTS[text]
    if shutil.which("scontrol"):  # needs no cluster for this
        told = subprocess.run(
            ["scontrol", "show", "hostnames", text], capture_output=True, text=True
        )
        assert told.returncode or told.stdout.split() == LISTS[text]


def test_line_ends_and_blanks_part_names() -> None:
    assert expand("10.0.0.1\n10.0.0.2 x , y[1, 3]") == ("10.0.0.1", "10.0.0.2", "x", "y1", "y3")
    assert expand("") == ()


@given(st.lists(st.from_regex(r"[a-z][a-z0-9.-]{0,9}", fullmatch=True), max_size=5))
def test_plain_names_stay(names: list[str]) -> None:
    assert list(expand(",".join(names))) == names


@pytest.mark.parametrize("text", ["a[", "a]", "a[1-2", "a[2-1]", "a[x]", "a[1-999999]", "a[]"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="is no list of hosts"):
        expand(text)


@pytest.mark.parametrize(
    "text", ["a[0-99999],b", "a[0-999]b[0-999]c[0-999]d[0-999]", "a[0-60000,0-60000]"]
)
def test_a_list_of_too_many_hosts_is_refused_before_it_fills_the_memory(text: str) -> None:
    with pytest.raises(ClusterError) as caught:
        expand(text)
    assert str(caught.value) == f"{text!r} names more than 100000 hosts"
