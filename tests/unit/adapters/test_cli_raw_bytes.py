"""Bytes that nobody understood are shown whole, and do nothing to a terminal."""

from __future__ import annotations

from headrace_adapters.cli.raw_bytes import key_text, lines_of, record_fields


def test_text_is_shown_as_it_is_and_what_cannot_be_seen_is_marked() -> None:
    assert list(lines_of('{"a":\r\n\t"größe"}'.encode())) == ['{"a":', '\t"größe"}']
    assert list(lines_of(b"\x1b[31mred\x00")) == ["\\x1b[31mred\\x00"]
    assert list(lines_of("a\u202eb".encode())) == ["a\\u202eb"]
    assert list(lines_of(b"")) == [""]


def test_other_bytes_are_shown_in_hexadecimal_digits() -> None:
    assert list(lines_of(bytes(range(0xF0, 0x100)) + b"ab")) == [
        "00000000  f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc fd fe ff  ................",
        "00000010  61 62                                            ab",
    ]


def test_a_key_stands_on_one_line() -> None:
    assert key_text(None) == ""
    assert key_text(b"r\n1\x1b") == "r\\n1\\x1b"
    assert key_text(b"\xffa") == "\\xffa"


def test_programs_get_text_or_base64() -> None:
    assert record_fields("key", "größe".encode()) == {"key": "größe"}
    assert record_fields("key", b"\xff") == {"keyBase64": "/w=="}
    assert record_fields("key", None) == {}
