"""The protocol core: what the server may answer, and what it says unasked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.by_hand import FINAL, GROUP, PLACE, PUT_OFF, REQUESTS, Client, Frame, message
from trio_chat import errors
from trio_chat.client.errors import ConnectionLost, OtherFailure, ProtocolViolation
from trio_chat.client.model import Connected, PresenceChanged, ReadBy
from trio_chat.client.session import State
from trio_chat.errors import (
    BadRequest,
    RateLimited,
    RequestError,
    ShuttingDown,
)
from trio_chat.wire.messages import Kind

# What the server may answer.


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.name)
def test_success(kind: Kind) -> None:
    client = Client().online()
    request = client.ask(kind)
    client.answer(client.the(kind), REQUESTS[kind][1])
    assert request.done
    assert request.error is None
    assert client.protocol.state is (State.ANONYMOUS if kind is Kind.LOGOUT else State.ONLINE)


@pytest.mark.parametrize("error", [*FINAL, *PUT_OFF], ids=lambda error: error.error)
@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.name)
def test_refusal(kind: Kind, error: RequestError) -> None:
    client = Client().online()
    request = client.ask(kind)
    frame = client.the(kind)
    if isinstance(error, ShuttingDown):
        with pytest.raises(ConnectionLost):
            client.answer(frame, error)
    else:
        client.answer(frame, error)
    assert request.error is not None
    assert type(request.error) is type(error)
    assert isinstance(request.error, RequestError)
    assert request.error.fields() == error.fields()
    assert client.protocol.account.user is not None


@pytest.mark.parametrize("error", FINAL, ids=lambda error: error.error)
@pytest.mark.parametrize("kind", [Kind.DIRECT, Kind.GROUP])
def test_a_refused_message_fails_and_lets_the_next_one_go(kind: Kind, error: RequestError) -> None:
    client = Client().online()
    first, second = client.send("1", kind=kind), client.send("2", kind=kind)
    client.answer(client.the(kind), error)
    assert type(first.error) is type(error)
    assert client.the(kind)["msg"] == "2"
    assert not second.done


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [
        (Kind.REGISTER, 1, errors.NameTaken),
        (Kind.ADD_FRIEND, 110, errors.NoSuchUser),
        (Kind.ADD_FRIEND, 121, RateLimited),
        (Kind.ADD_FRIEND, 101, BadRequest),
        (Kind.ADD_FRIEND, 4711, OtherFailure),
    ],
)
def test_a_refusal_that_has_only_a_number(kind: Kind, number: int, expected: type[RequestError]) -> None:
    client = Client().online()
    request = client.ask(kind)
    client.answer(client.the(kind), {"errno": number})
    assert type(request.error) is expected


@pytest.mark.parametrize(("said", "believed"), [(2.5, 2.5), (-1, 0.0), (1e300, 3600.0), ("soon", 1.0), (None, 1.0)])
def test_how_long_a_server_may_ask_to_wait(said: object, believed: float) -> None:
    client = Client().online()
    request = client.ask(Kind.ADD_FRIEND)
    client.answer(client.the(Kind.ADD_FRIEND), {"errno": 121, "error": "rate_limited", "retry_after": said})
    assert isinstance(request.error, RateLimited)
    assert request.error.retry_after == believed


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Kind.ADD_FRIEND, {"friend": {"id": "2", "name": "bob"}}),
        (Kind.ADD_FRIEND, {}),
        (Kind.JOIN_GROUP, {"group": [GROUP]}),
        (Kind.JOIN_GROUP, {"group": {**GROUP, "users": ["{}"]}}),
    ],
)
def test_an_answer_of_the_wrong_shape_ends_the_connection(kind: Kind, answer: Frame) -> None:
    client = Client().online()
    client.ask(kind)
    with pytest.raises(ProtocolViolation):
        client.answer(client.the(kind), answer)


def test_one_message_of_a_conversation_at_a_time_and_conversations_side_by_side() -> None:
    client = Client().online()
    first, second, other = client.send("1"), client.send("2"), client.send("3", kind=Kind.GROUP)
    one, three = client.sent()
    assert (one["msg"], three["msg"]) == ("1", "3")
    client.answer(one, PLACE)
    assert first.answer is not None
    client.answer(client.the(Kind.DIRECT), {**PLACE, "seq": 2})
    assert second.answer is not None
    assert not other.done


# What the server says unasked.


@pytest.mark.parametrize(
    "frame",
    [
        {"msgid": 99},
        {"msgid": 999, "ref": 77, "anything": [1]},
        {"msgid": -1, "errno": 130},
        {"msgid": 24, "ref": 4711, "errno": 0},
        {"msgid": 24, "errno": 100, "error": "bad_frame", "errmsg": "x"},
        {"msgid": 24, "ref": "not ours", "errno": 130},
        {"msgid": 24, "ref": True},
    ],
)
def test_what_it_does_not_know_changes_nothing(frame: Frame) -> None:
    client = Client().online()
    client.events()
    request = client.send()
    client.sent()
    client.give(frame)
    assert (client.sent(), client.events(), request.done) == ([], [], False)
    assert client.protocol.state is State.ONLINE


def test_ping_is_answered_with_its_data() -> None:
    client = Client().online()
    client.give({"msgid": Kind.PING, "data": {"x": [1, "ü", 2**70]}})
    assert client.sent() == [{"msgid": Kind.PONG, "data": {"x": [1, "ü", 2**70]}}]


def test_presence_and_read_marks() -> None:
    client = Client().online()
    assert client.events() == [Connected("s", "n")]
    client.give(
        {"msgid": Kind.PRESENCE, "id": 2, "state": "offline"},
        {"msgid": Kind.READ, "conv": "d:1:2", "seq": 3, "id": 2},
        {"msgid": Kind.PRESENCE, "id": 2, "state": "online"},
    )
    # The newer event on the same subject replaces the older one.
    assert client.events() == [ReadBy("d:1:2", 3, 2), PresenceChanged(2, online=True)]
    assert client.protocol.account.friends[2].online


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"[]",
        b"{}",
        b'{"msgid": "6"}',
        b'{"msgid": true}',
        b'{"msgid": 6, "conv": "d:1:2"}',
        json.dumps(message(1, conv="nowhere")).encode(),
        json.dumps(message(1, conv="g:x")).encode(),
        json.dumps(message(1, ts=10**18)).encode(),
        b'{"msgid": 29}',
        b'\xff{"msgid": 22}',
        b"[" * 100_000,
    ],
    ids=lambda line: line[:200].decode(errors="replace"),
)
def test_a_frame_that_cannot_be_ends_the_connection_and_only_that(line: bytes) -> None:
    client = Client().online()
    request = client.send(key="k")
    client.sent()
    with pytest.raises(ProtocolViolation) as caught:
        client.protocol.receive(line + b"\n", client.now)
    client.protocol.lost(caught.value)
    client.connect()
    client.accept(client.the(Kind.LOGIN))
    assert client.the(Kind.DIRECT)["key"] == "k"
    assert not request.done


def test_a_frame_without_end() -> None:
    client = Client(frame_limit=2000).online()
    with pytest.raises(ProtocolViolation, match="longer than 2000"):
        client.protocol.receive(b"x" * 3000, client.now)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = [
    "msgid",
    "ref",
    "errno",
    "error",
    "errmsg",
    "id",
    "name",
    "friends",
    "groups",
    "token",
    "friend",
    "group",
    "groupid",
    "conv",
    "seq",
    "ts",
    "key",
    "msg",
    "time",
    "toid",
    "state",
    "messages",
    "more",
    "conversations",
    "version",
    "limits",
    "heartbeat",
    "retry_after",
]
_ANY_FRAME = st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=8)
_LIKELY = st.fixed_dictionaries(
    {"msgid": st.sampled_from(list(map(int, Kind))), "ref": st.integers(1, 12)},
    optional={name: _JSON | st.just(1) | st.just("d:1:2") for name in _FIELDS[2:]},
)


@given(frames=st.lists(_ANY_FRAME | _LIKELY, max_size=6), asked=st.lists(st.sampled_from(list(REQUESTS)), max_size=4))
def test_nothing_but_a_lost_connection_escapes_whatever_comes(frames: list[Frame], asked: list[Kind]) -> None:
    client = Client().online()
    for kind in asked:
        client.ask(kind)
    client.send()
    for frame in frames:
        try:
            client.give(frame)
            client.later(1.0)
        except ConnectionLost as error:
            client.protocol.lost(error)
            client.protocol.connected(client.now)
        client.protocol.take(client.now)
