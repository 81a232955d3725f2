"""What is left on a line after all its carriage returns, backspaces and escapes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.launch.terminal import TerminalLine, clip, visible_width

KERAS_BAR = (
    "\x1b[1m1/3\x1b[0m \x1b[32m━━\x1b[0m\x1b[37m━━━━\x1b[0m 2s - loss: 1.2345"
    + "\b" * 27
    + "\r\x1b[1m3/3\x1b[0m \x1b[32m━━━━━━\x1b[0m\x1b[37m\x1b[0m 1s - loss: 0.5   \n"
)


def lines_of(*chunks: bytes | str, colours: bool = False) -> list[str]:
    line = TerminalLine(colours=colours)
    given = [chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks]
    return [*itertools.chain(*(line.feed(chunk) for chunk in given)), *line.finish()]


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        pytest.param("one\ntwo\n", ["one", "two"], id="lines"),
        pytest.param("one\n\ntwo", ["one", "", "two"], id="an empty line and no last line end"),
        pytest.param("one\r\ntwo\r\n", ["one", "two"], id="line ends of Windows"),
        pytest.param("1/3\r2/3\r3/3\n", ["3/3"], id="carriage returns"),
        pytest.param("1/3\r2/3\r3/3\r", ["3/3"], id="a carriage return at the end"),
        pytest.param("step 9\b\b10\n", ["step10"], id="backspaces"),
        pytest.param("ab\b\b\b\bcd\n", ["cd"], id="more backspaces than characters"),
        pytest.param("long text\rnew\n", ["newg text"], id="a shorter text leaves the rest"),
        pytest.param("long text\rnew      \n", ["new"], id="spaces wipe out the rest"),
        pytest.param("long text\r\x1b[Knew\n", ["new"], id="erased to the end"),
        pytest.param("long text\x1b[2K\rnew\n", ["new"], id="erased as a whole"),
        pytest.param("kept  \n", ["kept  "], id="spaces of a line never rewritten stay"),
        pytest.param("\x1b[31mred\x1b[0m\n", ["red"], id="colours go"),
        pytest.param("a\x1b[2Ab\x1b[?25lc\n", ["abc"], id="moving about is not followed"),
        pytest.param("\x1b]0;title\x07text\a\n", ["text"], id="titles and bells go"),
        pytest.param("a\tb\n", ["a\tb"], id="tabs stay"),
        pytest.param(KERAS_BAR, ["3/3 ━━━━━━ 1s - loss: 0.5"], id="Keras' progress bar"),
    ],
)
def test_a_line_is_what_a_terminal_would_show(output: str, lines: list[str]) -> None:
    assert lines_of(output) == lines


def test_a_character_cut_in_two_by_the_pipe_is_put_together() -> None:
    whole = "größer ━━".encode()
    for cut in range(len(whole)):
        assert lines_of(whole[:cut], whole[cut:]) == ["größer ━━"]


def test_bytes_that_are_not_utf_8_are_marked_and_the_rest_is_shown() -> None:
    assert lines_of(b"gr\xf6sser\n") == ["gr\ufffdsser"]
    assert lines_of(b"cut \xe2\x94") == ["cut \ufffd"]


def test_an_escape_cut_in_two_by_the_pipe_is_put_together() -> None:
    assert lines_of("a\x1b", "[3", "1mb\n") == ["ab"]


def test_colours_are_kept_for_a_terminal_and_end_with_the_line() -> None:
    assert lines_of("\x1b[31mred\nnot\n", colours=True) == ["\x1b[31mred\x1b[0m", "not"]


def test_a_line_that_never_ends_is_cut() -> None:
    lines = lines_of("x" * 50_000)
    assert [len(line) for line in lines] == [16384, 16384, 16384, 848]


def test_the_line_in_the_making_can_be_seen() -> None:
    line = TerminalLine()
    line.feed(b"done\n1/2\r2")
    assert line.shown == "2/2"


@given(
    text=st.text("ab é━\b\r\n\x1b[K1;m\x07]0\t", max_size=60),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_it_does_not_matter_where_the_pipe_cuts(text: str, cuts: list[int]) -> None:
    data = text.encode()
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(ends)]
    assert lines_of(*pieces) == lines_of(data)


@given(st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1), max_size=5))
def test_plain_text_comes_through_as_it_is(lines: list[str]) -> None:
    assert lines_of("".join(f"{line}\n" for line in lines)) == lines


def test_wide_characters_take_two_columns_and_colours_none() -> None:
    assert visible_width("\x1b[1mab\x1b[0m") == 2
    assert visible_width("東京") == 4
    assert visible_width("e\u0301") == 1


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("short", 10, "short"),
        ("exactly", 7, "exactly"),
        ("too long", 3, "too"),
        ("東京都", 5, "東京"),
        ("a\tb", 20, "a       b"),
        ("\x1b[1mbold\x1b[0m", 2, "\x1b[1mbo\x1b[0m"),
    ],
)
def test_a_text_is_clipped_to_the_columns_there_are(text: str, columns: int, shown: str) -> None:
    assert clip(text, columns) == shown
