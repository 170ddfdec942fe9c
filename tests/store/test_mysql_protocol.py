"""The pure half of the MySQL store: what is sent for a statement, and what is understood of an answer."""

from __future__ import annotations

import contextlib
import enum
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.store.contract import Result
from trio_chat.store.mysql_protocol import MAX_PACKET, ProtocolError, ReplyReader, ServerError, command, render


class _Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize(
    ("sql", "params", "sent"),
    [
        ("SELECT ?, ?, ?", (1, None, True), b"SELECT 1, NULL, 1"),
        ("SELECT ?", (_Colour.RED,), b"SELECT 3"),
        ("SELECT ?", ("it's \\ 100% \0?",), b"SELECT 'it''s \\\\ 100% \\0?'"),
        ("SELECT ?", ("é",), b"SELECT '\xc3\xa9'"),
        ("SELECT ?", (b"\xff'\\\0",), b"SELECT X'ff275c00'"),
        ("SELECT ?", (b"",), b"SELECT X''"),
        ("SELECT ?, ?, ?", ("plain", "it's", 7), b"SELECT 'plain', 'it''s', 7"),
        ("SELECT 5 % ?", (2,), b"SELECT 5 % 2"),
        ("SELECT '?', \"a\\\"?\", `?`, 'it''s ?' /* ? */, ? -- ?\n, ? # ?", (1, 2), None),
        ("SELECT '?' % 1", (), b"SELECT '?' % 1"),
    ],
)
def test_parameters_become_literals(sql: str, params: Any, sent: bytes | None) -> None:
    expected = sent or b"SELECT '?', \"a\\\"?\", `?`, 'it''s ?' /* ? */, 1 -- ?\n, 2 # ?"
    assert render(sql, params) == expected


@pytest.mark.parametrize("value", [{"x'; DROP TABLE a; --": 1}, [1], (1,), 1.5, bytearray(b"x"), object()])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="must be str, bytes, int or None"):
        render("SELECT ?", (value,))


@pytest.mark.parametrize(("sql", "params"), [("SELECT ?, ?", (1,)), ("SELECT ?", (1, 2)), ("SELECT 1", (1,))])
def test_a_wrong_number_of_parameters_is_refused(sql: str, params: Any) -> None:
    with pytest.raises(TypeError):
        render(sql, params)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        render("SELECT ?", ("\udc27",))


def test_a_long_command_is_split_into_packets() -> None:
    packets, sequence = command(b"x" * (MAX_PACKET - 1))
    assert (packets[:4], packets[-4:], sequence) == (b"\xff\xff\xff\0", b"\0\0\0\1", 2)
    packets, sequence = command(b"x" * MAX_PACKET)
    assert (packets[:4], packets[-5:], sequence) == (b"\xff\xff\xff\0", b"\1\0\0\1x", 2)


# --- Answers ---


def _packets(*payloads: bytes, first: int = 1) -> bytes:
    return b"".join(
        len(payload).to_bytes(3, "little") + bytes([(first + n) & 255]) + payload for n, payload in enumerate(payloads)
    )


def _column(kind: int, charset: int = 45, decimals: int = 0) -> bytes:
    names = b"".join(bytes([len(name)]) + name for name in (b"def", b"db", b"t", b"t", b"c", b"c"))
    return names + b"\x0c" + struct.pack("<HIBHBxx", charset, 100, kind, 0, decimals)


EOF = b"\xfe\0\0\3\0"  # no warnings; status: autocommit, in a transaction
COLUMNS = [_column(3), _column(253), _column(252, charset=63), _column(246), _column(246, decimals=2), _column(12, 63)]
ROW = b"\x0242" + b"\x03\xc3\xa9!" + b"\x02\xff\0" + b"\x017" + b"\x047.50" + b"\x0a2026-01-02"
LONG_ROW = b"\xfb" * 2 + b"\xfc\x2c\x01" + b"b" * 300 + b"\xfb" * 3
ROWS_ANSWER = _packets(b"\x06", *COLUMNS, EOF, ROW, LONG_ROW, EOF)
ROWS = [
    (42, "é!", b"\xff\0", 7, Decimal("7.50"), "2026-01-02"),
    (None, None, b"b" * 300, None, None, None),
]
OK_ANSWER = _packets(b"\0\x05\xfd\1\2\3\2\0\0\0")
ERROR_ANSWER = _packets(b"\xff" + struct.pack("<H", 1062) + b"#23000Duplicate")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_rows_are_read_however_they_arrive(size: int) -> None:
    reader = ReplyReader()
    result: Result | None = None
    for start in range(0, len(ROWS_ANSWER), size):
        assert result is None
        result = reader.feed(ROWS_ANSWER[start : start + size])
    assert result == Result(ROWS, changed=2)
    assert reader.status == 3


def test_a_change_is_read() -> None:
    reader = ReplyReader()
    assert reader.feed(OK_ANSWER) == Result(changed=5, inserted=0x030201)
    assert reader.status == 2


def test_two_statements_have_two_answers() -> None:
    first, second = _packets(b"\0\5\0\x0b\0\0\0"), _packets(b"\0\1\0\2\0\0\0", first=2)
    reader = ReplyReader(answers=2)
    assert reader.feed(first) is None
    assert (reader.answered, reader.feed(second), reader.status) == (1, Result(changed=1), 2)
    reader = ReplyReader(answers=2)
    with pytest.raises(ServerError):
        reader.feed(first + _packets(b"\xff" + struct.pack("<H", 1213) + b"x", first=2))
    assert reader.answered == 1
    for wrong in (OK_ANSWER, first + _packets(b"\0\1\0\x0a\0\0\0", first=2), first + second + b"\0"):
        with pytest.raises(ProtocolError):
            ReplyReader(answers=2).feed(wrong)


def test_an_error_is_read_in_any_place() -> None:
    for answer in (ERROR_ANSWER, _packets(b"\1", _column(3), EOF, b"\x011", b"\xff" + struct.pack("<H", 1062) + b"x")):
        with pytest.raises(ServerError) as caught:
            ReplyReader().feed(answer)
        assert caught.value.errno == 1062


@pytest.mark.parametrize(
    "answer",
    [
        _packets(b"\0\0\0\2\0\0\0", first=2),  # another command's
        _packets(b"\xff\x1d\x04#08S01Server shutdown in progress", first=0),  # said to nobody in particular
        OK_ANSWER + b"\0",  # more than one answer
        _packets(b"\0\0\0\x0a\0\0\0"),  # more results to come
        _packets(b"\xfb/etc/passwd"),  # asks for a file
        _packets(b""),
        _packets(b"\0\0\0"),  # no status
        _packets(b"\xff\x01"),
        _packets(b"\2", _column(3), EOF),  # a column is missing
        _packets(b"\1", b"\3def"),
        _packets(b"\1", _column(3), EOF, b"\x0212"[:2]),
        _packets(b"\1", _column(3), EOF, b"\x0212\x01"),
        _packets(b"\1", _column(3), EOF, b"\x02ab"),
        _packets(b"\1", _column(253), EOF, b"\x02\xff\xff"),
    ],
)
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        ReplyReader().feed(answer)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.integers(min_value=1, max_value=40))
def test_only_two_errors_escape(payloads: list[bytes], cut: int) -> None:
    answer = _packets(*payloads)
    reader = ReplyReader()
    with contextlib.suppress(ProtocolError, ServerError):
        if reader.feed(answer[:cut]) is None:
            reader.feed(answer[cut:])


@given(st.data())
def test_only_two_errors_escape_a_damaged_answer(data: st.DataObject) -> None:
    answer = bytearray(ROWS_ANSWER)
    for _ in range(data.draw(st.integers(min_value=1, max_value=4))):
        answer[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError, ServerError):
        ReplyReader().feed(bytes(answer))
