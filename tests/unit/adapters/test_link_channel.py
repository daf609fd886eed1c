"""Frames: cut out of whatever pieces a socket gives, and bounded."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ValueRefused
from headrace_adapters.link.channel import FrameSplitter, encode_frame

LINES = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b" ")), max_size=12)


@given(LINES, st.lists(st.integers(0, 200), max_size=12), st.integers(1, 12))
def test_frames_do_not_depend_on_the_pieces_that_they_come_in(lines: list[bytes], cuts: list[int], most: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    splitter = FrameSplitter(most)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    found = [frame for start, end in itertools.pairwise(bounds) for frame in splitter.split(data[start:end])]

    assert found == [line if len(line) <= most else None for line in lines if line]


def test_of_a_frame_that_never_ends_nothing_is_kept() -> None:
    splitter = FrameSplitter(100)

    found = [frame for _ in range(1_000) for frame in splitter.split(b"x" * 64)]

    assert found == [None]
    assert list(splitter.split(b"x\n{}\n")) == [b"{}"]


def test_a_frame_is_one_line_however_deep_its_value_is() -> None:
    deep: list[object] = ["\n"]
    for _ in range(300):
        deep = [deep, "\u2028é"]

    frame = encode_frame({"value": deep})

    assert b"\n" not in frame
    assert orjson.loads(frame) == {"value": deep}


@pytest.mark.parametrize("value", [{1}, {1: 2}, "\udc80", object(), 2**70])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(ValueRefused, match="not JSON"):
        encode_frame({"value": value})
