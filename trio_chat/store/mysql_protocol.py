"""The text of a statement and the bytes of its answer, as MySQL and MariaDB understand them. Pure: no socket, no task.

Both are ours rather than the driver's because every message of every user goes through them: measured on multi-row
INSERTs, the parameters take a fifth of the driver's time, and reading a page of a hundred rows less than half. What is
read is the text protocol, https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response.html.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from trio_chat.store.contract import Result, Value

__all__ = ["IN_TRANSACTION", "NO_BACKSLASH_ESCAPES", "ProtocolError", "ReplyReader", "ServerError", "command", "render"]

#: Bits of the status that the server sends with every answer.
IN_TRANSACTION: Final = 0x0001
MORE_RESULTS: Final = 0x0008
NO_BACKSLASH_ESCAPES: Final = 0x0200

COM_QUERY: Final = b"\x03"
MAX_PACKET: Final = 0xFFFFFF


class ServerError(Exception):
    """The server refused a statement: `errno` is its number, the text its own. The connection stays in step."""

    def __init__(self, errno: int, message: str) -> None:
        self.errno = errno
        self.message = message
        super().__init__(f"{message} ({errno})")


class ProtocolError(Exception):
    """The server's bytes are not the answer to our command: the connection is out of step and of no use any more."""


# --- Statements ---


def render(sql: str, params: Sequence[Value]) -> bytes:
    """The statement with each `?` replaced by a parameter, ready to send. Without parameters `sql` goes as it is.

    Right for the session that `mysql_driver` sets up: utf8mb4, and backslash as the escape character. Raises
    `TypeError` for a value that is not a `Value` and for a wrong number of them, `UnicodeEncodeError` for a lone
    surrogate.
    """
    if not params:
        return sql.encode()
    texts = "".join([value for value in params if type(value) is str])
    plain = "'" not in texts and "\\" not in texts and "\0" not in texts
    # What a message consists of, without a call each; everything else, and texts in which something has to be escaped, the long way.
    literals = [
        value if type(value) is int else f"'{value}'" if plain and type(value) is str else _literal(value)
        for value in params
    ]
    return (_template(sql) % tuple(literals)).encode()


def _literal(value: Value) -> str:
    # int first, and subclasses (bool, StrEnum) too: nothing else is let through, least of all a dict or a list.
    if isinstance(value, int):
        return f"{value:d}"
    if isinstance(value, str):
        return f"'{_escape(value)}'"
    if isinstance(value, bytes):
        # To both servers that is a string of bytes: it need not be valid UTF-8, and nothing in it has to be escaped.
        return f"X'{value.hex()}'"
    if value is None:
        return "NULL"
    raise TypeError(f"a statement's parameter must be str, bytes, int or None, not {type(value).__name__}")


def _escape(text: str) -> str:
    # The quote is doubled rather than escaped by a backslash, so that even under NO_BACKSLASH_ESCAPES no value could end its
    # literal.
    return text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0")


#: What may contain a question mark that is not a parameter: strings, quoted names, comments.
_QUOTED = r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`|--\s[^\n]*|#[^\n]*|/\*.*?\*/"
_ANY_QUOTED = re.compile(r"['\"`#]|--|/\*")
_PARAMETER = re.compile(rf"(?P<kept>{_QUOTED})|\?", re.DOTALL)


@lru_cache(maxsize=256)
def _template(sql: str) -> str:
    """`sql` as a pattern for `%`. Cached: a batch's statement is long, and there is one for each number of rows."""
    doubled = sql.replace("%", "%%")
    if not _ANY_QUOTED.search(sql):  # the long ones have none, and the pattern takes a millisecond for them
        return doubled.replace("?", "%s")
    return _PARAMETER.sub(lambda found: found["kept"] or "%s", doubled)


def command(query: bytes) -> tuple[bytes, int]:
    """The packets that ask for `query`, and the sequence number of the answer's first packet."""
    payload = COM_QUERY + query
    if len(payload) < MAX_PACKET:
        return len(payload).to_bytes(3, "little") + b"\0" + payload, 1
    # A packet of the full size says that another one follows, be it an empty one.
    pieces = [payload[start : start + MAX_PACKET] for start in range(0, len(payload) + 1, MAX_PACKET)]
    packets = [len(piece).to_bytes(3, "little") + bytes([n & 255]) + piece for n, piece in enumerate(pieces)]
    return b"".join(packets), len(pieces) & 255


# --- Answers ---

Convert = Callable[[bytes], Any]

_BINARY_CHARSET: Final = 63
#: BIT, BLOBs, VARCHAR, VAR_STRING, STRING, GEOMETRY: bytes or text, as the column's character set says.
_TEXT_OR_BYTES: Final = frozenset({15, 16, 249, 250, 251, 252, 253, 254, 255})
_DECIMALS: Final = frozenset({0, 246})
_NUMBERS: Final[dict[int, Convert]] = {
    **dict.fromkeys((1, 2, 3, 8, 9, 13), int),  # TINY, SHORT, LONG, LONGLONG, INT24, YEAR
    **dict.fromkeys((4, 5), float),  # FLOAT, DOUBLE
}


def _decimal(text: bytes) -> Decimal:
    return Decimal(text.decode())


class ReplyReader:
    """Reads the answer to one command. `sequence` is the number that its first packet must carry.

    A command of several statements has as many answers, of which the last one is returned; after an error there are no
    more. `answered` counts those that were read whole.

    Integers come as int, also a DECIMAL without a fraction (what SUM gives), text as str, BLOB and BINARY as bytes,
    dates and times as their text.
    """

    def __init__(self, sequence: int = 1, answers: int = 1) -> None:
        self.status = 0
        self.answered = 0
        self._answers = answers
        self._sequence = sequence
        self._buffer = b""
        self._columns = 0
        self._converts: list[Convert] = []
        self._rows: list[tuple[Any, ...]] = []
        # The state: what the next packet is. _head, then for an answer with rows _column and _row.
        self._packet: Callable[[bytes, int, int], Result | None] = self._head

    def feed(self, data: bytes) -> Result | None:
        """Take what the server sent; returns the answer once it is whole, and `status` is the session's then.

        Raises `ServerError` where the server refused the command, `ProtocolError` for anything that is not an answer.
        """
        try:
            return self._feed(self._buffer + data)
        except (IndexError, ValueError, ArithmeticError) as error:
            raise ProtocolError(f"malformed answer: {error!r}") from error

    def _feed(self, buffer: bytes) -> Result | None:
        size = len(buffer)
        position = 0
        while size - position >= 4:
            length = buffer[position] | buffer[position + 1] << 8 | buffer[position + 2] << 16
            end = position + 4 + length
            if end > size:
                break
            if buffer[position + 3] != self._sequence:
                raise ProtocolError(f"packet {buffer[position + 3]} where {self._sequence} was expected")
            if not 0 < length < MAX_PACKET:
                raise ProtocolError(f"a packet of {length} bytes")
            self._sequence = (self._sequence + 1) & 255
            if buffer[position + 4] == 0xFF:
                raise _server_error(buffer[position + 4 : end])
            result = self._packet(buffer, position + 4, end)
            if result is not None:
                self.answered += 1
                if self.answered == self._answers:
                    if end != size:
                        raise ProtocolError("more bytes than the answer")
                    return result
                self._columns, self._converts, self._rows = 0, [], []
                self._packet = self._head
            position = end
        self._buffer = buffer[position:]
        return None

    def _head(self, buffer: bytes, start: int, end: int) -> Result | None:
        if buffer[start] == 0:
            changed, at = _integer(buffer, start + 1)
            inserted, at = _integer(buffer, at)
            self._set_status(buffer, at, end)
            return Result(changed=changed, inserted=inserted)
        self._columns, at = _integer(buffer, start)  # 0xFB, a request for a local file, is no integer and refused there
        if at != end:
            raise ProtocolError("not the head of an answer")
        self._packet = self._column
        return None

    def _column(self, buffer: bytes, start: int, end: int) -> Result | None:
        if buffer[start] == 0xFE and end - start < 9:
            if len(self._converts) != self._columns:
                raise ProtocolError(f"{len(self._converts)} columns where {self._columns} were announced")
            self._packet = self._row
            return None
        at = start
        for _ in range(6):  # catalogue, database, table and column by two names each: nothing that we need
            length, at = _integer(buffer, at)
            at += length
        if end - at != 13:
            raise ProtocolError("not the description of a column")
        self._converts.append(_convert(buffer[at + 1] | buffer[at + 2] << 8, buffer[at + 7], buffer[at + 10]))
        return None

    def _row(self, buffer: bytes, start: int, end: int) -> Result | None:
        if buffer[start] == 0xFE and end - start < 9:
            self._set_status(buffer, start + 3, end)
            return Result(self._rows, len(self._rows))
        row: list[Any] = []
        at = start
        for convert in self._converts:
            length = buffer[at]
            at += 1
            if length > 250:
                if length == 251:
                    row.append(None)
                    continue
                length, at = _integer(buffer, at - 1)
            stop = at + length
            row.append(convert(buffer[at:stop]))
            at = stop
        if at != end:
            raise ProtocolError("a row of another length than its packet")
        self._rows.append(tuple(row))
        return None

    def _set_status(self, buffer: bytes, at: int, end: int) -> None:
        if at + 2 > end:
            raise ProtocolError("an answer without a status")
        self.status = buffer[at] | buffer[at + 1] << 8
        more = self.answered + 1 < self._answers
        if bool(self.status & MORE_RESULTS) != more:
            raise ProtocolError("another number of answers than of statements")


def _integer(buffer: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer, and the position after it."""
    first = buffer[at]
    if first < 251:
        return first, at + 1
    try:
        size = {252: 2, 253: 3, 254: 8}[first]
    except KeyError:
        raise ProtocolError(f"{first:#x} where an integer was expected") from None
    return int.from_bytes(buffer[at + 1 : at + 1 + size], "little"), at + 1 + size


def _convert(charset: int, kind: int, decimals: int) -> Convert:
    if kind in _NUMBERS:
        return _NUMBERS[kind]
    if kind in _DECIMALS:
        return _decimal if decimals else int
    if kind in _TEXT_OR_BYTES and charset == _BINARY_CHARSET:
        return bytes
    return bytes.decode  # text; JSON too, whatever its character set; dates and times, which are ASCII


def _server_error(packet: bytes) -> ServerError:
    if len(packet) < 3:
        raise ProtocolError("an error without a number")
    text = packet[3:]
    if text[:1] == b"#":
        text = text[6:]  # the SQLSTATE says less than the number
    return ServerError(packet[1] | packet[2] << 8, text.decode(errors="replace"))
