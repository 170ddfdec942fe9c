"""The protocol core: receipts, broken connections, logins, waiting, limits, the end."""

from __future__ import annotations

import pytest

from tests.client.by_hand import PLACE, REQUESTS, Client, message
from trio_chat import errors
from trio_chat.client.errors import ChatClosed, ConnectionLost, ProtocolViolation
from trio_chat.client.model import Disconnected, SignedOut
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
    # What only the page uses so far.
    unasked |= {Kind.TYPING, Kind.FIND_USER, Kind.SEARCH, Kind.GROUP_INFO, Kind.DELIVERED}
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
