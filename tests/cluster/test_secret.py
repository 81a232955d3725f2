"""A job's secret: where it comes from, and that it is in no text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tfdist.cluster.secret import NO_SECRET, Secret
from tfdist.errors import ClusterError
from tfdist.process import secret

WORD = "a word of 16 characters or more"


def test_a_secret_is_in_no_text() -> None:
    assert WORD not in repr(Secret(WORD)) + str(Secret(WORD)) + f"{Secret(WORD)}"


def test_random_secrets_differ_and_are_long() -> None:
    words = {Secret.random().word for _ in range(100)}
    assert len(words) == 100
    assert {len(word) for word in words} == {64}


@pytest.mark.parametrize("length", [1, 15, 4097])
def test_a_secret_of_the_wrong_length_is_refused_without_telling_it(length: int) -> None:
    with pytest.raises(ClusterError) as caught:
        Secret("~" * length)
    assert str(caught.value).startswith(
        f"secret of {length} characters; give 16 characters or more"
    )
    assert "~" not in str(caught.value)


def test_without_a_word_there_is_none() -> None:
    assert not NO_SECRET
    assert Secret(WORD)
    assert secret({}) == secret({"TFDIST_SECRET": ""}) == NO_SECRET


def test_what_is_keyed_depends_on_the_secret_and_every_part() -> None:
    made = {
        one.keyed(*parts)
        for one in (Secret(WORD), Secret(WORD + "!"), NO_SECRET)
        for parts in ((b"a",), (b"b",), (b"a", b"b"))
    }
    assert len(made) == 9
    assert Secret(WORD).keyed(b"a", b"b") == Secret(WORD).keyed(b"ab")


def a_file(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_variable_or_a_file_gives_the_same_secret(tmp_path: Path) -> None:
    file = a_file(tmp_path, f"  {WORD}\n")
    assert secret({"TFDIST_SECRET_FILE": file}) == secret({"TFDIST_SECRET": f"{WORD} "})
    assert secret({"TFDIST_SECRET": WORD}).word == WORD


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602, 0o604])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    file = a_file(tmp_path, WORD, mode)
    with pytest.raises(ClusterError) as caught:
        secret({"TFDIST_SECRET_FILE": file})
    assert str(caught.value) == f"secret file {file} that others can open; chmod 600 it"


def test_a_file_without_a_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"secret that is empty; give 16 characters or more"):
        secret({"TFDIST_SECRET_FILE": a_file(tmp_path, " \n")})
    with pytest.raises(ClusterError, match="secret of 5 characters"):
        secret({"TFDIST_SECRET_FILE": a_file(tmp_path, "short")})
    with pytest.raises(ClusterError, match="secret of 4098 characters"):
        secret({"TFDIST_SECRET_FILE": a_file(tmp_path, "x" * 1_000_000)})
    missing = os.path.join(tmp_path, "none")
    with pytest.raises(ClusterError, match=r"none that cannot be read \(No such file or directory"):
        secret({"TFDIST_SECRET_FILE": missing})


def test_a_variable_and_a_file_are_refused() -> None:
    with pytest.raises(ClusterError, match="TFDIST_SECRET and TFDIST_SECRET_FILE are both set"):
        secret({"TFDIST_SECRET": WORD, "TFDIST_SECRET_FILE": "x"})
