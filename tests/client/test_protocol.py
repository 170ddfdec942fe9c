"""The protocol core, frame by frame: what the server may answer, and what breaks at which moment."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat import errors
from trio_chat.client.errors import ChatClosed, ConnectionLost, OtherFailure, ProtocolViolation
from trio_chat.client.model import Connected, Disconnected, Event, PresenceChanged, ReadBy, SignedOut
from trio_chat.client.options import Options
from trio_chat.client.outgoing import Request
from trio_chat.client.protocol import Protocol
from trio_chat.client.session import ALLOWED, TRANSITIONS, Cause, State
from trio_chat.errors import (
    AlreadyLoggedIn,
    BadCredentials,
    BadRequest,
    NotLoggedIn,
    RateLimited,
    RequestError,
    ShuttingDown,
    TooLarge,
    Unavailable,
)
from trio_chat.wire.messages import Kind

Frame = dict[str, Any]

GREETING: Frame = {
    "version": 1,
    "server": "s",
    "node": "n",
    "limits": {"frame": 1000, "message": 500},
    "heartbeat": 10.0,
}
FRIEND = {"id": 2, "name": "bob", "state": "offline"}
MEMBER = {"id": 2, "name": "bob", "state": "online", "role": "creator"}
GROUP = {"id": 7, "groupname": "g", "groupdesc": "d", "users": [MEMBER]}
PLACE: Frame = {"conv": "d:1:2", "seq": 1, "ts": 5}

#: Requests with fields, and an answer that tells of success.
REQUESTS: dict[Kind, tuple[Frame, Frame]] = {
    Kind.REGISTER: ({"name": "x", "password": "y"}, {"msgid": Kind.REGISTER_ACK, "id": 3}),
    Kind.ADD_FRIEND: ({"friendid": 2}, {"friend": FRIEND}),
    Kind.CREATE_GROUP: ({"groupname": "g", "groupdesc": "d"}, {"groupid": 7}),
    Kind.JOIN_GROUP: ({"groupid": 7}, {"group": GROUP}),
    Kind.READ: ({"conv": "d:1:2", "seq": 1}, {}),
    Kind.HISTORY: ({"conv": "d:1:2", "limit": 5}, {"messages": [], "more": False}),
    Kind.CONVERSATIONS: ({}, {"conversations": []}),
    Kind.PING: ({}, {"msgid": Kind.PONG}),
    Kind.LOGOUT: ({}, {}),
}

PUT_OFF: list[RequestError] = [Unavailable("u"), RateLimited(3.0, "r"), ShuttingDown("s")]
FINAL: list[RequestError] = [
    error("text")
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, RequestError) and error not in (RequestError, RateLimited)
    if not isinstance(error("text"), (Unavailable, ShuttingDown))
] + [OtherFailure(999, "from_a_later_version", "text")]


class Client:
    """A protocol, and the server's side of it by hand."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.protocol = Protocol(Options(**options), draw=lambda: 0.5)

    def sent(self) -> list[Frame]:
        """What the client has sent since the last look."""
        return [json.loads(line) for line in self.protocol.take_output().splitlines()]

    def the(self, kind: Kind) -> Frame:
        """The one frame that it has sent."""
        [frame] = self.sent()
        assert frame["msgid"] == kind
        return frame

    def give(self, *frames: Frame) -> None:
        """Have the server send frames."""
        self.protocol.receive(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames), self.now)

    def answer(self, request: Frame, fields: Frame | RequestError) -> None:
        given = fields.fields() if isinstance(fields, RequestError) else {"errno": 0, **fields}
        self.give({"msgid": Kind.REPLY, "ref": request["ref"], **given})

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.protocol.tick(self.now)

    def connect(self) -> Client:
        self.protocol.connected(self.now)
        self.answer(self.the(Kind.HELLO), {"msgid": Kind.HELLO_ACK, **GREETING})
        return self

    def accept(self, login: Frame) -> None:
        fields = {"id": 1, "name": "alice", "friends": [FRIEND], "groups": [GROUP], "token": f"t{login['ref']}"}
        self.answer(login, {"msgid": Kind.LOGIN_ACK, **fields})

    def online(self, **fields: str) -> Client:
        self.connect()
        self.protocol.login(fields or {"name": "alice", "password": "pw"}, self.now)
        self.accept(self.the(Kind.LOGIN))
        return self

    def back(self) -> None:
        """Lose the connection, connect again and log in by token."""
        self.protocol.lost(ConnectionLost("cut"))
        self.connect()
        self.accept(self.the(Kind.LOGIN))

    def send(self, text: str = "hi", key: str | None = None, kind: Kind = Kind.DIRECT) -> Request:
        return self.protocol.send(kind, 2 if kind is Kind.DIRECT else 7, text, key, self.now)

    def ask(self, kind: Kind, *, repeatable: bool = False) -> Request:
        return self.protocol.request(kind, REQUESTS[kind][0], self.now, repeatable=repeatable)

    def events(self) -> list[Event]:
        taken = []
        while (event := self.protocol.events.take()) is not None:
            taken.append(event)
        return taken


def message(seq: int, **fields: Any) -> Frame:
    base = {"msgid": 6, "id": 2, "name": "bob", "toid": 1, "msg": f"text {seq}", "time": "t", "ts": 5}
    return {**base, "conv": "d:1:2", "seq": seq, **fields}


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
        {"msgid": 30},
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


# Receipts.


def test_a_receipt_follows_the_take_after_the_message() -> None:
    client = Client(receipt_delay=0.2).online()
    client.give(message(4), message(5), message(6, conv="d:2:3"))
    assert client.protocol.take(client.now) is not None
    client.later(10.0)
    assert client.sent() == []  # it is with the application, which may still fail
    assert client.protocol.take(client.now) is not None
    assert client.protocol.deadline == client.now + 0.2
    client.later(0.1)
    assert client.sent() == []
    assert client.protocol.take(client.now) is not None
    assert client.protocol.take(client.now) is None
    client.later(0.2)
    # One receipt for each conversation, however many messages it covers.
    assert client.sent() == [
        {"msgid": Kind.RECEIVED, "conv": "d:1:2", "seq": 5},
        {"msgid": Kind.RECEIVED, "conv": "d:2:3", "seq": 6},
    ]


def test_a_receipt_that_was_lost_is_sent_again_when_its_message_comes_again() -> None:
    client = Client().online()
    client.give(message(1))
    client.protocol.take(client.now)
    client.protocol.take(client.now)
    client.back()
    client.sent()  # CONVERSATIONS
    client.give(message(1))
    assert client.protocol.take(client.now) is None
    client.later(1.0)
    assert client.the(Kind.RECEIVED)["seq"] == 1


def test_logout_sends_the_receipts_first() -> None:
    client = Client().online()
    client.give(message(1))
    client.protocol.take(client.now)
    client.protocol.take(client.now)
    client.ask(Kind.LOGOUT)
    assert [frame["msgid"] for frame in client.sent()] == [Kind.RECEIVED, Kind.LOGOUT]


# The connection breaks.


@pytest.mark.parametrize("moment", ["connecting", "greeting", "signing in", "under way", "put off", "waiting"])
def test_messages_are_sent_again_with_their_keys_wherever_it_breaks(moment: str) -> None:
    client = Client().online()
    if moment in ("under way", "put off"):
        first, second = client.send("1"), client.send("2", key="mine")
        sent = client.the(Kind.DIRECT)
        if moment == "put off":
            client.answer(sent, Unavailable())
        client.protocol.lost(ConnectionLost("cut"))
    else:
        client.protocol.lost(ConnectionLost("cut"))
        first, second = client.send("1"), client.send("2", key="mine")
        sent = {"key": first.fields["key"], "msg": "1"}
    if moment == "connecting":
        client.protocol.connected(client.now)
        client.protocol.lost(ConnectionLost("cut"))
        client.sent()
    if moment in ("greeting", "signing in"):
        client.connect()
        client.the(Kind.LOGIN)
        if moment == "signing in":
            client.later(1.0)
        client.protocol.lost(ConnectionLost("cut"))
    client.connect()
    client.accept(client.the(Kind.LOGIN))
    again = client.the(Kind.DIRECT)
    assert (again["key"], again["msg"]) == (sent["key"], "1")
    client.answer(again, PLACE)
    again = client.the(Kind.DIRECT)
    assert (again["key"], again["msg"]) == ("mine", "2")
    client.answer(again, {**PLACE, "seq": 2})
    assert first.error is second.error is None
    client.back()
    assert client.sent() == []  # what is acknowledged is not sent again


@pytest.mark.parametrize(
    "kind",
    [kind for kind in REQUESTS if kind not in (Kind.LOGOUT, Kind.REGISTER, Kind.PING)],
    ids=lambda kind: kind.name,
)
def test_other_requests_are_repeated_only_where_that_is_harmless(kind: Kind) -> None:
    client = Client().online()
    once, again = client.ask(kind), client.ask(kind, repeatable=True)
    assert len(client.sent()) == 2
    client.back()
    assert isinstance(once.error, ConnectionLost)
    assert once.error.request is kind
    client.answer(client.the(kind), REQUESTS[kind][1])
    assert again.answer is not None


def test_a_request_whose_answer_breaks_the_rules_is_not_repeated() -> None:
    client = Client().online()
    request = client.ask(Kind.HISTORY, repeatable=True)
    client.sent()
    client.protocol.lost(ProtocolViolation("nonsense"))
    assert isinstance(request.error, ConnectionLost)


def test_what_nobody_waits_for_is_not_sent_again() -> None:
    client = Client().online()
    under_way, waiting, asked = client.send("1"), client.send("2"), client.ask(Kind.HISTORY, repeatable=True)
    for request in (under_way, waiting, asked):
        client.protocol.abandon(request)
    client.sent()
    client.back()
    assert client.sent() == []


def test_a_logout_that_was_cut_logs_out_here() -> None:
    client = Client().online()
    request = client.ask(Kind.LOGOUT)
    client.protocol.lost(ConnectionLost("cut"))
    assert isinstance(request.error, ConnectionLost)
    assert client.protocol.account.user is None
    client.connect()
    assert client.sent() == []


@pytest.mark.parametrize(
    "pair", [(s, c) for s in State for c in Cause], ids=lambda pair: f"{pair[0].name}-{pair[1].name}"
)
def test_the_table_of_states(pair: tuple[State, Cause]) -> None:
    """Losing the connection leads offline from wherever there is one; nothing else does."""
    state, cause = pair
    after = TRANSITIONS.get(pair)
    assert (after is State.OFFLINE) == (cause is Cause.LOST and state is not State.OFFLINE)
    assert after is not state


def test_every_request_has_its_states() -> None:
    unasked = {Kind.LOGIN_ACK, Kind.REGISTER_ACK, Kind.HELLO_ACK, Kind.PONG, Kind.REPLY, Kind.RECEIVED, Kind.PRESENCE}
    assert set(ALLOWED) >= set(Kind) - unasked - {Kind.READ, Kind.PING}
    assert all(states and State.OFFLINE not in states for states in ALLOWED.values())


# Logging in.


def test_a_refused_login() -> None:
    client = Client().connect()
    request = client.protocol.login({"name": "alice", "password": "no"}, client.now)
    with pytest.raises(AlreadyLoggedIn):
        client.protocol.login({"name": "alice", "password": "pw"}, client.now)
    client.answer(client.the(Kind.LOGIN), {"msgid": 2, "errno": 1, "errmsg": "id or password is invalid!"})
    assert isinstance(request.error, BadCredentials)
    assert client.protocol.state is State.ANONYMOUS
    assert client.protocol.take_refusal() is None
    again = client.protocol.login({"name": "alice", "password": "pw"}, client.now)
    client.accept(client.the(Kind.LOGIN))
    assert again.answer is not None


def test_a_login_that_was_cut_is_done_again() -> None:
    client = Client().connect()
    request = client.protocol.login({"name": "alice", "password": "pw"}, client.now)
    client.the(Kind.LOGIN)
    client.protocol.lost(ConnectionLost("cut"))
    client.connect()
    client.accept(client.the(Kind.LOGIN))
    assert request.answer is not None


def test_an_expired_token_is_made_up_for_by_the_password() -> None:
    client = Client().online()
    message_waits = client.send(key="k")
    client.sent()
    client.protocol.lost(ConnectionLost("cut"))
    client.connect()
    login = client.the(Kind.LOGIN)
    assert "token" in login
    assert "password" not in login
    client.answer(login, {"msgid": 2, **BadCredentials().fields()})
    login = client.the(Kind.LOGIN)
    assert (login["id"], login["password"]) == (1, "pw")
    client.accept(login)
    assert client.the(Kind.DIRECT)["key"] == "k"
    assert not message_waits.done
    assert SignedOut not in {type(event) for event in client.events()}


@pytest.mark.parametrize("refused", [errors.BadCredentials(), errors.Forbidden()], ids=lambda error: error.error)
def test_where_there_is_no_password_an_expired_token_logs_out(refused: RequestError) -> None:
    client = Client().online(token="t0")
    waiting, asked = client.send(), client.ask(Kind.HISTORY, repeatable=True)
    client.sent()
    client.events()
    client.protocol.lost(ConnectionLost("cut"))
    client.connect()
    client.answer(client.the(Kind.LOGIN), {"msgid": 2, **refused.fields()})
    assert type(waiting.error) is type(asked.error) is type(refused)
    assert waiting.error is not asked.error  # an error that is raised twice would mix up its tracebacks
    assert client.protocol.account.user is None
    assert [type(event) for event in client.events()] == [Disconnected, SignedOut]
    assert type(client.protocol.take_refusal()) is type(refused)
    assert client.protocol.take_refusal() is None  # it is told once
    with pytest.raises(NotLoggedIn):
        client.send()


@pytest.mark.parametrize("error", [Unavailable(), RateLimited(3.0)], ids=lambda error: error.error)
def test_logging_in_again_waits_where_the_server_asks_for_it(error: RequestError) -> None:
    client = Client().online()
    client.protocol.lost(ConnectionLost("cut"))
    client.connect()
    client.answer(client.the(Kind.LOGIN), {"msgid": 2, **error.fields()})
    due = client.protocol.deadline
    assert due is not None
    assert due > client.now
    client.later(due - client.now - 0.01)
    assert client.sent() == []
    client.later(0.02)
    client.accept(client.the(Kind.LOGIN))


def test_another_account_than_before_is_a_violation() -> None:
    client = Client().online()
    client.protocol.lost(ConnectionLost("cut"))
    client.connect()
    login = client.the(Kind.LOGIN)
    with pytest.raises(ProtocolViolation, match="another account"):
        client.answer(login, {"msgid": 2, "id": 9, "name": "mallory"})


# Waiting, limits, the end.


def test_rate_limited_messages_wait_as_long_as_asked_and_keep_their_order() -> None:
    client = Client().online()
    client.send("1", key="k1")
    client.send("2", key="k2")
    client.answer(client.the(Kind.DIRECT), RateLimited(3.0))
    assert client.protocol.deadline == pytest.approx(client.now + 3.15)  # a little more, so that not all come at once
    client.later(3.0)
    assert client.sent() == []
    client.later(0.2)
    again = client.the(Kind.DIRECT)
    assert (again["msg"], again["key"]) == ("1", "k1")


def test_unavailable_is_tried_again_ever_more_slowly() -> None:
    client = Client(retry_first=1.0, retry_limit=4.0).online()
    client.send()
    pauses = []
    for _ in range(4):
        client.answer(client.the(Kind.DIRECT), Unavailable())
        due = client.protocol.deadline
        assert due is not None
        pauses.append(round(due - client.now, 3))
        client.give({"msgid": Kind.PING})  # any frame is a sign of life
        client.sent()
        client.later(due - client.now + 0.001)
    assert pauses == [0.6, 1.2, 2.4, 2.4]


def test_shutting_down_gives_the_connection_up_when_nothing_is_lost_by_it() -> None:
    client = Client().online()
    sent, asked = client.send(key="k"), client.ask(Kind.CREATE_GROUP)
    message_frame, group_frame = client.sent()
    client.give({"msgid": 24, **ShuttingDown().fields()})  # to everybody
    client.send("later")
    assert client.sent() == []  # nothing new goes to a server that leaves
    client.answer(message_frame, ShuttingDown())
    with pytest.raises(ConnectionLost, match="shutting down"):
        client.answer(group_frame, {"groupid": 8})
    assert asked.answer is not None
    client.back()
    assert client.the(Kind.DIRECT)["key"] == "k"
    assert not sent.done


def test_a_frame_over_the_servers_limit_fails_at_once() -> None:
    client = Client().online()
    request, after = client.send("x" * 1000), client.send("y")
    assert isinstance(request.error, TooLarge)
    client.later(0.0)
    assert client.the(Kind.DIRECT)["msg"] == "y"
    assert not after.done


def test_a_server_that_does_not_greet() -> None:
    client = Client(connect_timeout=5.0)
    client.protocol.connected(client.now)
    client.later(4.9)
    with pytest.raises(ConnectionLost, match="greeting"):
        client.later(0.2)


def test_a_greeting_that_is_refused() -> None:
    client = Client()
    client.protocol.connected(client.now)
    with pytest.raises(ConnectionLost, match="refused the greeting"):
        client.answer(client.the(Kind.HELLO), BadRequest("version: is 1"))


def test_silence_is_asked_about_and_then_given_up() -> None:
    client = Client().online()
    client.later(19.9)
    assert client.sent() == []
    client.later(0.2)
    client.answer(client.the(Kind.PING), {"msgid": Kind.PONG})
    client.later(20.1)
    client.the(Kind.PING)
    client.later(9.8)
    with pytest.raises(ConnectionLost, match="sign of life"):
        client.later(0.3)


def test_whatever_waits_fails_when_the_chat_is_closed() -> None:
    client = Client().online()
    waiting = [client.send("1"), client.send("2"), client.ask(Kind.HISTORY, repeatable=True)]
    client.protocol.lost(ConnectionLost("cut"))
    waiting += [client.send("3", kind=Kind.GROUP), client.ask(Kind.CREATE_GROUP)]
    client.protocol.close()
    assert [type(request.error) for request in waiting] == [ChatClosed] * 5
    with pytest.raises(ChatClosed):
        client.send()
    with pytest.raises(ChatClosed):
        client.ask(Kind.PING)
    with pytest.raises(ChatClosed):
        client.protocol.login({}, client.now)


def test_requests_that_need_a_login_fail_without_one() -> None:
    client = Client().connect()
    with pytest.raises(NotLoggedIn):
        client.send()
    for kind in REQUESTS:
        if State.ANONYMOUS not in ALLOWED[kind]:
            with pytest.raises(NotLoggedIn):
                client.ask(kind)
