from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import IO, Any

import pytest

from headrace_adapters.cli import start_events
from headrace_adapters.cli.start_events import BadLine, StartLine, read_line, read_lines


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_a_whole_line_is_read() -> None:
    whole = line(type="start", runId="r", blueprintId="f", version="2", input=[1], context={"k": None}, requestId="q")

    assert read_line(whole, None) == StartLine("r", "f", "2", [1], {"k": None})


def test_what_is_absent_or_null_has_its_empty_value() -> None:
    assert read_line(b"{}", "f") == StartLine(None, "f", None, None, {})
    assert read_line(line(runId=None, version=None, context=None, type=None), "f") == StartLine(None, "f", None, None, {})


def test_a_line_that_names_its_flow_goes_before_the_command() -> None:
    assert read_line(line(blueprintId="own"), "f").flow == "own"


@pytest.mark.parametrize(
    ("text", "field", "told"),
    [
        (b"nonsense", "", "expected a JSON object: not JSON"),
        (b'{"runId": "r"', "", "not JSON"),
        (b'{"input": NaN}', "", "not JSON"),
        (b"\xff{}", "", "not JSON"),
        (b"[1]", "", "expected a JSON object: a list"),
        (b"null", "", "expected a JSON object: null"),
        (b'{"runId": 3}', "runId", "runId: expected text that is not empty, found a number"),
        (b'{"runId": ""}', "runId", "found empty text"),
        (b'{"blueprintId": ["f"]}', "blueprintId", "found a list"),
        (b'{"version": 2}', "version", "found a number"),
        (b'{"context": "k"}', "context", "context: expected an object, found text"),
        (b'{"type": "resume"}', "type", "type: expected 'start', found 'resume'"),
        (b'{"inptu": 1}', "inptu", "inptu: expected one of the fields type, runId"),
        (b'{"runId": true}', "runId", "found a boolean"),
    ],
)
def test_a_bad_line_names_the_field_and_what_belongs_there(text: bytes, field: str, told: str) -> None:
    with pytest.raises(BadLine) as caught:
        read_line(text, "f")

    assert caught.value.field == field
    assert told in str(caught.value)


def test_a_line_that_names_no_flow_is_bad_where_the_command_names_none() -> None:
    with pytest.raises(BadLine, match="blueprintId: expected the id of a flow, here or as FLOW"):
        read_line(b"{}", None)


async def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    return [numbered async for numbered in read_lines(io.BytesIO(data))]


async def test_blank_lines_are_left_out_and_counted() -> None:
    assert await lines_of(b"a\n\n  \nb\r\nc") == [(1, b"a"), (4, b"b"), (5, b"c")]
    assert await lines_of(b"") == []


async def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert await lines_of(b"\xef\xbb\xbf{}\n{}") == [(1, b"{}"), (2, b"{}")]


async def test_too_long_a_line_is_bad_and_the_next_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_events, "LINE_BYTES_MAX", 10)
    (first, second) = await lines_of(b"x" * 35 + b"\n{}\n")

    assert second == (2, b"{}")
    assert len(first[1]) == 11
    with pytest.raises(BadLine, match="at most 10 bytes"):
        read_line(first[1], "f")


async def test_many_lines_are_read_a_few_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_events, "LINES_AHEAD", 3)
    stream = io.BytesIO(b"{}\n" * 1_000)

    numbers = [number async for number, _ in read_lines(stream)]

    assert numbers == list(range(1, 1_001))


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as end:
        yield stream, end


async def test_lines_of_a_pipe_come_as_they_are_written(pipe: tuple[IO[bytes], IO[bytes]]) -> None:
    stream, end = pipe
    lines = read_lines(stream)

    end.write(b"first\n")
    assert await anext(lines) == (1, b"first")
    end.write(b"second\n")
    assert await anext(lines) == (2, b"second")
    end.close()
    with pytest.raises(StopAsyncIteration):
        await anext(lines)


async def test_an_error_of_the_stream_is_raised() -> None:
    class Broken(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        _ = [item async for item in read_lines(Broken())]
