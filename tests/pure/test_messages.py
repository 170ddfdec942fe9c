"""Requests: what each kind takes, and that whatever else comes becomes one `RequestError` that names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.pure.bounds import BOUNDED, BRIEF
from trio_chat.errors import BadFrame, BadRequest, RequestError
from trio_chat.wire.messages import (
    REQUESTS,
    AddFriend,
    Block,
    Blocked,
    ChangePassword,
    Conversations,
    CreateGroup,
    DeleteAccount,
    Direct,
    Envelope,
    Export,
    ExportAfter,
    FindUser,
    Group,
    GroupInfo,
    Hello,
    History,
    JoinGroup,
    Kind,
    LeaveGroup,
    Login,
    Logins,
    Logout,
    LogoutEverywhere,
    Ping,
    Pong,
    Read,
    Received,
    Register,
    RemoveMember,
    Request,
    RevokeLogin,
    Search,
    SearchBefore,
    Typing,
    Unblock,
    answer_kind,
    decode,
    encode,
    open_envelope,
)

INT64 = 2**63 - 1

#: The numbers and names of docs/protocol.md: they never change.
NUMBERS = {
    1: "LOGIN",
    2: "LOGIN_ACK",
    3: "LOGOUT",
    4: "REGISTER",
    5: "REGISTER_ACK",
    6: "DIRECT",
    7: "ADD_FRIEND",
    8: "CREATE_GROUP",
    9: "JOIN_GROUP",
    10: "GROUP",
    20: "HELLO",
    21: "HELLO_ACK",
    22: "PING",
    23: "PONG",
    24: "REPLY",
    25: "RECEIVED",
    26: "READ",
    27: "HISTORY",
    28: "CONVERSATIONS",
    29: "PRESENCE",
    30: "TYPING",
    31: "FIND_USER",
    32: "SEARCH",
    33: "GROUP_INFO",
    34: "DELIVERED",
    35: "CHANGE_PASSWORD",
    36: "LOGINS",
    37: "REVOKE_LOGIN",
    38: "LOGOUT_EVERYWHERE",
    39: "EXPORT",
    40: "DELETE_ACCOUNT",
    45: "LEAVE_GROUP",
    46: "REMOVE_MEMBER",
    47: "BLOCK",
    48: "UNBLOCK",
    49: "BLOCKED",
}

#: A valid request of every kind: its fields, the least first, and what they are read as.
VALID: list[tuple[Kind, dict[str, Any], Request]] = [
    (Kind.LOGIN, {}, Login()),
    (Kind.LOGIN, {"id": 7, "password": "pw"}, Login(id=7, password="pw")),
    (Kind.LOGIN, {"id": -5, "password": ""}, Login(id=-5, password="")),
    (Kind.LOGIN, {"name": "ann", "password": "pw"}, Login(name="ann", password="pw")),
    (Kind.LOGIN, {"name": "n" * 1000, "password": "p" * 60000}, Login(name="n" * 1000, password="p" * 60000)),
    (Kind.LOGIN, {"token": "t" * 128}, Login(token="t" * 128)),
    (Kind.LOGIN, {"id": None, "name": None, "password": None, "token": None}, Login()),
    (Kind.LOGOUT, {}, Logout()),
    (Kind.LOGOUT, {"id": "ignored"}, Logout()),
    (Kind.REGISTER, {"name": "a", "password": "p"}, Register("a", "p")),
    (Kind.REGISTER, {"name": "\U0001f600" * 50, "password": "é" * 1024}, Register("\U0001f600" * 50, "é" * 1024)),
    (Kind.REGISTER, {"name": "a", "password": "p", "invitation": "i" * 128}, Register("a", "p", "i" * 128)),
    (Kind.DIRECT, {"toid": 1, "msg": ""}, Direct(1, "")),
    (Kind.DIRECT, {"toid": INT64, "msg": "m" * 60000}, Direct(INT64, "m" * 60000)),
    (Kind.DIRECT, {"toid": 5, "msg": "hi", "time": "t" * 64, "key": "k" * 64}, Direct(5, "hi", "t" * 64, "k" * 64)),
    (Kind.DIRECT, {"toid": 5, "msg": "\0\n\x7f\u2028é", "time": None, "key": None}, Direct(5, "\0\n\x7f\u2028é")),
    (Kind.ADD_FRIEND, {"friendid": 1}, AddFriend(1)),
    (Kind.ADD_FRIEND, {"friendid": INT64}, AddFriend(INT64)),
    (Kind.CREATE_GROUP, {"groupname": "g"}, CreateGroup("g")),
    (Kind.CREATE_GROUP, {"groupname": "g" * 50, "groupdesc": "d" * 200}, CreateGroup("g" * 50, "d" * 200)),
    (Kind.JOIN_GROUP, {"groupid": INT64}, JoinGroup(INT64)),
    (Kind.GROUP, {"groupid": 1, "msg": "hi"}, Group(1, "hi")),
    (Kind.GROUP, {"groupid": 5, "msg": "hi", "time": "", "key": "k"}, Group(5, "hi", "", "k")),
    (Kind.HELLO, {"version": 1}, Hello(1)),
    (Kind.HELLO, {"version": 2, "client": "c" * 256, "receipts": True}, Hello(2, "c" * 256, True)),
    (Kind.PONG, {}, Pong()),
    (Kind.PONG, {"data": {"ignored": [1]}}, Pong()),
    (Kind.RECEIVED, {"conv": "d:1:2", "seq": 0}, Received("d:1:2", 0)),
    (Kind.RECEIVED, {"conv": "g:999999999999999999", "seq": INT64}, Received("g:999999999999999999", INT64)),
    (Kind.READ, {"conv": "d:7:7", "seq": 1}, Read("d:7:7", 1)),
    (Kind.HISTORY, {"conv": "g:1"}, History("g:1", None, None, 50)),
    (Kind.HISTORY, {"conv": "g:1", "after": 0, "limit": 1}, History("g:1", 0, None, 1)),
    (Kind.HISTORY, {"conv": "g:1", "before": INT64, "limit": 2**31}, History("g:1", None, INT64, 2**31)),
    (Kind.CONVERSATIONS, {}, Conversations()),
    (Kind.TYPING, {"conv": "d:1:2"}, Typing("d:1:2")),
    (Kind.FIND_USER, {"name": "n" * 50}, FindUser("n" * 50)),
    (Kind.SEARCH, {"query": "x"}, Search("x", None, None, 20)),
    (
        Kind.SEARCH,
        {"query": "q" * 100, "conv": "g:1", "before": {"ts": 1, "conv": "g:1", "seq": 2}, "limit": 50},
        Search("q" * 100, "g:1", SearchBefore(1, "g:1", 2), 50),
    ),
    (Kind.GROUP_INFO, {}, GroupInfo()),
    (Kind.GROUP_INFO, {"groupid": 1, "groupname": "g"}, GroupInfo(1, "g")),
    (Kind.CHANGE_PASSWORD, {"password": "p", "newpassword": "é" * 1024}, ChangePassword("p", "é" * 1024)),
    (Kind.LOGINS, {}, Logins()),
    (Kind.REVOKE_LOGIN, {"login": "0123456789abcdef"}, RevokeLogin("0123456789abcdef")),
    (Kind.LOGOUT_EVERYWHERE, {}, LogoutEverywhere()),
    (Kind.EXPORT, {}, Export()),
    (Kind.EXPORT, {"after": {"conv": "g:1", "seq": 0}}, Export(ExportAfter("g:1", 0))),
    (Kind.DELETE_ACCOUNT, {"password": "p"}, DeleteAccount("p")),
    (Kind.LEAVE_GROUP, {"groupid": INT64}, LeaveGroup(INT64)),
    (Kind.REMOVE_MEMBER, {"groupid": 1, "userid": 2}, RemoveMember(1, 2, True)),
    (Kind.REMOVE_MEMBER, {"groupid": 1, "userid": 2, "barred": False}, RemoveMember(1, 2, False)),
    (Kind.BLOCK, {"userid": 1}, Block(1)),
    (Kind.UNBLOCK, {"userid": INT64}, Unblock(INT64)),
    (Kind.BLOCKED, {}, Blocked()),
]

MISSING: Any = object()

# What each sort of field refuses.
NO_TEXT = [5, 1.5, True, [], {}]
NO_INTEGER = ["5", 5.0, 1e3, True, [], {}]
NO_NULL = [None]
NO_ID = [*NO_INTEGER, 0, -1, INT64 + 1, 10**30]
NO_SEQ = [*NO_INTEGER, -1, INT64 + 1, 10**30]
NO_NAME = [*NO_TEXT, *NO_NULL, MISSING, "", "n" * 51, "\U0001f600" * 51]
NO_PASSWORD = [*NO_TEXT, *NO_NULL, MISSING, "", "p" * 1025]
NO_CONV = [
    *NO_TEXT,
    *NO_NULL,
    MISSING,
    "",
    "d",
    "g:",
    "g:0",
    "g:01",
    "g:-1",
    "g:+1",
    "g:1 ",
    " g:1",
    "g:1\n",
    "g:1:2",
    "g:\u0661",  # a digit, but not of ASCII
    "g:1e3",
    "d:1",
    "d:0:1",
    "d:1:",
    "d:1:2:3",
    "G:1",
    "x:1",
    "g:" + "9" * 19,  # would not fit a database's integers
    "d:1:" + "9" * 19,
    "g:" + "9" * 5000,
]

#: Each field of each kind, with the values that it refuses.
REFUSED: dict[tuple[Kind, str], list[Any]] = {
    (Kind.LOGIN, "id"): [*NO_INTEGER, INT64 + 1, -INT64 - 2, 10**30],
    (Kind.LOGIN, "name"): NO_TEXT,
    (Kind.LOGIN, "password"): NO_TEXT,
    (Kind.LOGIN, "token"): [*NO_TEXT, "t" * 129],
    (Kind.REGISTER, "name"): NO_NAME,
    (Kind.REGISTER, "password"): NO_PASSWORD,
    (Kind.REGISTER, "invitation"): [*NO_TEXT, "i" * 129],
    (Kind.DIRECT, "toid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.DIRECT, "msg"): [*NO_TEXT, *NO_NULL, MISSING],
    (Kind.DIRECT, "time"): [*NO_TEXT, "t" * 65],
    (Kind.DIRECT, "key"): [*NO_TEXT, "", "k" * 65],
    (Kind.ADD_FRIEND, "friendid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.CREATE_GROUP, "groupname"): NO_NAME,
    (Kind.CREATE_GROUP, "groupdesc"): [*NO_TEXT, *NO_NULL, "d" * 201],
    (Kind.JOIN_GROUP, "groupid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.GROUP, "groupid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.GROUP, "msg"): [*NO_TEXT, *NO_NULL, MISSING],
    (Kind.GROUP, "time"): [*NO_TEXT, "t" * 65],
    (Kind.GROUP, "key"): [*NO_TEXT, "", "k" * 65],
    (Kind.HELLO, "version"): [*NO_INTEGER, *NO_NULL, MISSING],
    (Kind.HELLO, "client"): [*NO_TEXT, *NO_NULL, "c" * 257],
    (Kind.HELLO, "receipts"): [*NO_NULL, "true", 1, 0, [], {}],
    (Kind.PING, "data"): [],  # anything
    (Kind.RECEIVED, "conv"): NO_CONV,
    (Kind.RECEIVED, "seq"): [*NO_SEQ, *NO_NULL, MISSING],
    (Kind.READ, "conv"): NO_CONV,
    (Kind.READ, "seq"): [*NO_SEQ, *NO_NULL, MISSING],
    (Kind.HISTORY, "conv"): NO_CONV,
    (Kind.HISTORY, "after"): NO_SEQ,
    (Kind.HISTORY, "before"): NO_SEQ,
    (Kind.HISTORY, "limit"): [*NO_SEQ, *NO_NULL, 0, 2**31 + 1],
    (Kind.TYPING, "conv"): NO_CONV,
    (Kind.FIND_USER, "name"): NO_NAME,
    (Kind.SEARCH, "query"): [*NO_TEXT, *NO_NULL, MISSING, "", "q" * 101],
    (Kind.SEARCH, "conv"): [conv for conv in NO_CONV if conv is not None and conv is not MISSING],
    (Kind.SEARCH, "before"): [5, "x", [], {"ts": -1, "conv": "g:1", "seq": 1}, {"ts": 1, "conv": "x", "seq": 1}],
    (Kind.SEARCH, "limit"): [*NO_SEQ, *NO_NULL, 0, 2**31 + 1],
    (Kind.GROUP_INFO, "groupid"): NO_ID,
    (Kind.LEAVE_GROUP, "groupid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.REMOVE_MEMBER, "groupid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.REMOVE_MEMBER, "userid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.REMOVE_MEMBER, "barred"): ["true", 1, 0.5, None, [], {}],
    (Kind.BLOCK, "userid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.UNBLOCK, "userid"): [*NO_ID, *NO_NULL, MISSING],
    (Kind.GROUP_INFO, "groupname"): [name for name in NO_NAME if name is not None and name is not MISSING],
    (Kind.CHANGE_PASSWORD, "password"): NO_PASSWORD,
    (Kind.CHANGE_PASSWORD, "newpassword"): NO_PASSWORD,
    (Kind.REVOKE_LOGIN, "login"): [
        *(*NO_TEXT, *NO_NULL, MISSING, "", "0123456789abcde", "0123456789ABCDEF", "0123456789abcdef\n", "g" * 16)
    ],
    (Kind.EXPORT, "after"): [5, "x", [], {"conv": "x", "seq": 1}, {"conv": "g:1", "seq": -1}],
    (Kind.DELETE_ACCOUNT, "password"): NO_PASSWORD,
}

ONE_VALID = {kind: fields for kind, fields, _ in reversed(VALID)} | {Kind.PING: {}}

NOT_FRAMES = {
    "empty": b"",
    "blank": b"  ",
    "text": b"hello",
    "null": b"null",
    "number": b"22",
    "string": b'"msgid"',
    "array": b'[{"msgid":22}]',
    "no msgid": b"{}",
    "null msgid": b'{"msgid":null}',
    "text msgid": b'{"msgid":"22"}',
    "true msgid": b'{"msgid":true}',
    "float msgid": b'{"msgid":22.0}',
    "exponent msgid": b'{"msgid":22e0}',
    "object msgid": b'{"msgid":{"ref":1}}',
    "msgid of 5,000 digits": b'{"msgid":%s}' % (b"9" * 5000),
    "msgid with a leading zero": b'{"msgid":022}',
    "capital": b'{"Msgid":22}',
    "last of two msgids is none": b'{"msgid":22,"msgid":"x"}',
    "cut off": b'{"msgid":22',
    "trailing comma": b'{"msgid":22,}',
    "something behind it": b'{"msgid":22} {}',
    "single quotes": b"{'msgid':22}",
    "comment": b'{"msgid":22/*x*/}',
    "NaN": b'{"msgid":22,"data":NaN}',
    "Infinity": b'{"msgid":22,"data":-Infinity}',
    "byte order mark": b'\xef\xbb\xbf{"msgid":22}',
    "UTF-16": '{"msgid":22}'.encode("utf-16"),
    "control character in a text": b'{"msgid":22,"x":"\x01"}',
    "unknown escape": rb'{"msgid":22,"x":"\x41"}',
    "invalid UTF-8 in a value": b'{"msgid":22,"x":"\xff"}',
    "invalid UTF-8 in a known value": b'{"msgid":6,"toid":1,"msg":"\xc3("}',
    "invalid UTF-8 in a name": b'{"msgid":22,"\xff":1}',
    "invalid UTF-8 between": b'{"msgid":22,\xff"x":1}',
    "invalid UTF-8 at the end": b'{"msgid":22}\xc3',
    "overlong UTF-8": b'{"msgid":22,"x":"\xc0\x80"}',
    "surrogate as UTF-8": b'{"msgid":22,"x":"\xed\xa0\x80"}',
    "lone high surrogate": rb'{"msgid":6,"toid":1,"msg":"\ud83d"}',
    "lone low surrogate": rb'{"msgid":6,"toid":1,"msg":"\ude00"}',
    "surrogates the wrong way round": rb'{"msgid":6,"toid":1,"msg":"\ude00\ud83d"}',
    "lone surrogate in a field nobody knows": rb'{"msgid":22,"x":"\ud83d"}',
    "lone surrogate in a name": rb'{"msgid":22,"\ud83d":1}',
    "100,000 brackets": b"[" * 100_000,
    "100,000 brackets in a field": b'{"msgid":22,"x":%s' % (b"[" * 100_000),
    "100,000 closed brackets in data": b'{"msgid":22,"data":%s%s}' % (b"[" * 100_000, b"]" * 100_000),
    "100,000 objects": b'{"a":' * 100_000,
    "100,000 brackets as msgid": b'{"msgid":%s' % (b"[" * 100_000),
}


def frame_of(kind: Kind, fields: dict[str, Any]) -> bytes:
    return json.dumps({"msgid": int(kind), **fields}).encode()


def read(frame: bytes) -> tuple[Envelope, Request | None]:
    """Take a frame apart as a connection does. Raises `RequestError`."""
    envelope = open_envelope(frame)
    if envelope.msgid not in REQUESTS:
        return envelope, None
    return envelope, decode(Kind(envelope.msgid), frame)


def field_names(request: type[Request]) -> set[str]:
    return set(request.__struct_fields__)


def shown(value: object) -> str:
    return "missing" if value is MISSING else ascii(value)[:30]


# -- kinds --------------------------------------------------------------------------------------------------------------


def test_kinds_have_the_numbers_of_the_protocol() -> None:
    assert {int(kind): kind.name for kind in Kind} == NUMBERS


def test_the_tables_here_know_every_request_and_every_field() -> None:
    assert set(ONE_VALID) == set(REQUESTS)
    assert set(REFUSED) == {(kind, name) for kind, request in REQUESTS.items() for name in field_names(request)}


@pytest.mark.parametrize("kind", [None, *Kind], ids=lambda kind: kind.name if kind else "unknown")
def test_a_failure_is_told_where_the_request_would_have_been_answered(kind: Kind | None) -> None:
    expected = {Kind.LOGIN: Kind.LOGIN_ACK, Kind.REGISTER: Kind.REGISTER_ACK}
    assert answer_kind(kind) is (expected.get(kind, Kind.REPLY) if kind else Kind.REPLY)


# -- what is understood -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "request_"),
    [pytest.param(*row, id=f"{row[0].name}-{index}") for index, row in enumerate(VALID)],
)
def test_a_valid_request_is_read(kind: Kind, fields: dict[str, Any], request_: Request) -> None:
    assert read(frame_of(kind, fields)) == (Envelope(int(kind)), request_)
    more = {"unknown": {"deep": [None]}, "Msg": 5, "": True, **fields, "ref": "r"}
    assert read(frame_of(kind, more)) == (Envelope(int(kind), "r"), request_), "unknown fields are ignored"


def test_the_last_of_several_fields_of_one_name_counts() -> None:
    frame = b'{"msgid":1,"ref":1,"toid":9,"msgid":6,"msg":"a","toid":5,"msg":"b","ref":2}'
    assert read(frame) == (Envelope(6, 2), Direct(5, "b"))
    with pytest.raises(BadRequest) as caught:
        read(b'{"msgid":6,"toid":5,"msg":"a","toid":"5"}')
    assert caught.value.field == "toid"


def test_escapes_in_names_and_texts_are_what_they_stand_for() -> None:
    assert read(rb'{"\u006dsgid":6,"to\u0069d":5,"msg":"\ud83d\ude00\u0000\/"}')[1] == Direct(5, "\U0001f600\0/")


@pytest.mark.parametrize("msgid", [0, -1, 2, 11, 24, 29, 34, 1000, 2**31, 2**63, 2**64, 10**100, -(10**100)], ids=shown)
def test_an_integer_that_is_no_request_has_an_envelope_all_the_same(msgid: int) -> None:
    envelope, request = read(b'{"msgid":%d,"ref":"r"}' % msgid)
    assert (envelope.msgid, envelope.ref, request) == (msgid, "r", None)


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b"true",
        b"0",
        b"-0.0",
        b"1.50",
        b"1e400",
        b"18446744073709551616",
        b"9" * 5000,
        b'""',
        rb'"\u00e9\ud83d\ude00\u0000"',
        '"é\U0001f600"'.encode(),
        b"[]",
        b'[1,[2,[3,{"a":[{}]}]]]',
        b'{"a":1,"a":2,"":null}',
        b"[" * 500 + b"]" * 500,
    ],
    ids=shown,
)
def test_the_data_of_a_ping_comes_back_as_it_was(data: bytes) -> None:
    ping = read(b'{"msgid":22,"data":%s}' % data)[1]
    assert isinstance(ping, Ping)
    assert encode({"msgid": 23, "data": ping.data}) == b'{"msgid":23,"data":%s}' % data


def test_a_ping_without_data() -> None:
    ping = read(b'{"msgid":22}')[1]
    assert isinstance(ping, Ping)
    assert not ping.data


# -- ref ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ref", [None, 0, 5, -5, INT64, -INT64 - 1, "", "r", "\0", "é" * 64, "\U0001f600" * 64], ids=shown
)
def test_a_ref_is_a_text_of_64_characters_or_an_integer_of_64_bits(ref: object) -> None:
    assert open_envelope(frame_of(Kind.PING, {"ref": ref})).ref == ref


@pytest.mark.parametrize("ref", [1.0, 1e3, True, [], {}, INT64 + 1, -INT64 - 2, 10**30, "r" * 65], ids=shown)
def test_another_ref_is_refused_by_name(ref: object) -> None:
    for fields in ({"msgid": 22, "ref": ref}, {"ref": ref, "msgid": 22}, {"ref": ref, "msgid": 9999}):
        with pytest.raises(BadRequest, match=r"^ref: .") as caught:
            open_envelope(json.dumps(fields).encode())
        assert caught.value.field == "ref"


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "field"), REFUSED, ids=lambda value: value.name if isinstance(value, Kind) else value)
def test_a_field_that_is_wrong_is_named(kind: Kind, field: str) -> None:
    for value in REFUSED[kind, field]:
        fields = {**ONE_VALID[kind], field: value}
        if value is MISSING:
            del fields[field]
        error = refusal(kind, fields)
        assert error.field == field, shown(value)
        assert error.errmsg.startswith(f"{field}: ")
        assert error.fields() == {"errno": 101, "error": "bad_request", "errmsg": error.errmsg}
        assert "`" not in error.errmsg
        assert "\n" not in error.errmsg


def refusal(kind: Kind, fields: dict[str, Any]) -> BadRequest:
    frame = frame_of(kind, fields)
    assert open_envelope(frame).msgid == kind
    try:
        request = decode(kind, frame)
    except BadRequest as error:
        return error
    pytest.fail(f"{frame!r} was read as {request}")


def test_an_integer_of_5000_digits_is_refused_by_name() -> None:
    with pytest.raises(BadRequest) as caught:
        read(b'{"msgid":6,"msg":"x","toid":%s}' % (b"9" * 5000))
    assert caught.value.field == "toid"
    with pytest.raises(BadRequest) as caught:
        read(b'{"msgid":22,"ref":%s}' % (b"9" * 5000))
    assert caught.value.field == "ref"


@pytest.mark.parametrize("frame", NOT_FRAMES.values(), ids=NOT_FRAMES.keys())
def test_what_is_no_frame_is_a_bad_frame(frame: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        read(frame)
    assert caught.value.fields()["errno"] == 100
    for kind in REQUESTS:  # and if it was opened, no decoder lets another error out
        with pytest.raises(RequestError):
            decode(kind, frame + b"\xff")


# -- anything at all ------------------------------------------------------------------------------------------------------


def check_reading(frame: bytes) -> None:
    """Only `BadFrame` and `BadRequest` escape, the latter names a field, and what is read is of its type."""
    try:
        envelope, request = read(frame)
    except RequestError as error:
        refusal = error
    else:
        check_read(envelope, request)
        return
    assert type(refusal) in {BadFrame, BadRequest}
    if isinstance(refusal, BadRequest):
        assert refusal.field
        assert refusal.errmsg.startswith(refusal.field + ": ")


def check_read(envelope: Envelope, request: Request | None) -> None:
    assert type(envelope.msgid) is int
    assert type(envelope.ref) in {int, str, type(None)}
    if isinstance(envelope.ref, str):
        assert len(envelope.ref) <= 64
    elif envelope.ref is not None:
        assert -(2**63) <= envelope.ref < 2**63
    encode({"msgid": 24, "ref": envelope.ref})
    if request is not None:
        assert isinstance(request, REQUESTS[Kind(envelope.msgid)])


@BOUNDED
@given(st.binary(max_size=200))
@example(b"")
def test_only_request_errors_escape_from_any_bytes(frame: bytes) -> None:
    check_reading(frame)
    for kind in REQUESTS:
        try:
            decode(kind, frame)
        except RequestError:
            continue


NAMES = st.sampled_from(sorted({"msgid", "ref", *(name for _, name in REFUSED)})) | st.text(max_size=4)
NUMBERS_OF_ALL_SIZES = (
    st.integers(0, 30) | st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.just(10**400)
)
TEXTS = (
    st.text(max_size=70)
    | st.text(st.characters(codec=None), max_size=8)  # lone surrogates too
    | st.from_regex(r"[dg](:[0-9]{1,20}){1,2}", fullmatch=True)
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS_OF_ALL_SIZES | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@BOUNDED
@given(
    st.sampled_from(sorted(REQUESTS)) | NUMBERS_OF_ALL_SIZES | VALUES,
    st.dictionaries(NAMES, VALUES, max_size=5),
    st.booleans(),
)
def test_only_request_errors_escape_from_any_json(msgid: object, fields: dict[str, Any], readable: bool) -> None:
    text = json.dumps({**fields, "msgid": msgid}, ensure_ascii=not readable)
    check_reading(text.encode("utf-8", "surrogatepass"))


@BOUNDED
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.binary(max_size=4)), min_size=1, max_size=3),
)
def test_only_request_errors_escape_from_a_damaged_request(
    valid: tuple[Kind, dict[str, Any], Request], damages: list[tuple[int, int, bytes]]
) -> None:
    kind, fields, _ = valid
    frame = frame_of(kind, {"ref": "r", **fields})
    for start, length, put in damages:
        start = min(start, len(frame))
        frame = frame[:start] + put + frame[start + length % 8 :]
    check_reading(frame)


@BRIEF
@given(
    st.integers(1, 3000), st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]), st.sampled_from([b"data", b"ref", b"x"])
)
def test_only_request_errors_escape_from_any_depth(depth: int, brackets: tuple[bytes, bytes], field: bytes) -> None:
    opening, closing = brackets
    nested = opening * depth + (b"1" if opening != b"[" else b"") + closing * depth
    check_reading(b'{"msgid":22,"%s":%s}' % (field, nested))


# -- what is sent ---------------------------------------------------------------------------------------------------------


@BOUNDED
@given(st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3))
def test_no_terminator_occurs_in_a_frame(text: str, more: dict[str, str]) -> None:
    frame = encode({"msgid": 6, "msg": text, "more": more})
    assert b"\n" not in frame
    assert b"\0" not in frame
    assert json.loads(frame) == {"msgid": 6, "msg": text, "more": more}
