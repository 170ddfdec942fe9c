"""The protocol core against a model server, whatever fails in between: Hypothesis chooses what happens when."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.client.fake import FakeServer, Session
from trio_chat.client.errors import ConnectionLost
from trio_chat.client.model import Message
from trio_chat.client.options import Options
from trio_chat.client.outgoing import Request
from trio_chat.client.protocol import Protocol
from trio_chat.client.session import State
from trio_chat.errors import RateLimited, RequestError, ShuttingDown, Unavailable
from trio_chat.wire.messages import Kind

GROUP = "g:1"
DIRECT = "d:1:2"
CONVS = st.sampled_from([DIRECT, GROUP])


class Chatting(RuleBasedStateMachine):
    """Alice's client is under test. Bob writes to her; so does a second device of hers, which also receives."""

    def __init__(self) -> None:
        super().__init__()
        self.server = FakeServer()
        self.alice = self.server.account("alice")
        self.bob = self.server.account("bob")
        self.server.group(self.alice, self.bob)
        self.now = 0.0
        self.protocol = Protocol(Options(inbox_limit=3), draw=lambda: 0.5)
        self.session: Session | None = None
        self.down = b""  # on its way to the client
        self.taken: dict[str, list[Message]] = {DIRECT: [], GROUP: []}
        self.processed = {DIRECT: 0, GROUP: 0}
        self.server.on_received = self.receipt_came
        self.sent: dict[str, list[str]] = {DIRECT: [], GROUP: []}
        self.requests: list[Request] = []
        self.counter = 0
        self.connect()
        self.login = self.protocol.login({"name": "alice", "password": "pw"}, self.now)
        self.exchange()
        assert self.login.answer is not None

    def text(self) -> str:
        self.counter += 1
        return f"text {self.counter}"

    # The network.

    def connect(self) -> None:
        self.session = self.server.connect()
        self.down = b""
        self.protocol.connected(self.now)

    def cut(self, reason: ConnectionLost) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None
            self.protocol.lost(reason)

    def exchange(self) -> None:
        """Until nothing is on its way any more."""
        while self.session is not None:
            up = self.protocol.take_output()
            if up:
                self.session.receive(up)
            self.down += self.session.take()
            if not up and not self.down:
                return
            self.arrive(len(self.down))

    def arrive(self, size: int) -> None:
        data, self.down = self.down[:size], self.down[size:]
        try:
            self.protocol.receive(data, self.now)
        except ConnectionLost as error:
            self.cut(error)

    @rule(size=st.integers(1, 2000))
    @precondition(lambda self: self.session is not None)
    def client_to_server(self, size: int) -> None:
        assert self.session is not None
        data = self.protocol.take_output()
        if size > 1000:
            self.session.receive(data)
        else:
            # The connection breaks within what was being sent.
            self.session.receive(data[:size])
            self.down += self.session.take()
            self.cut(ConnectionLost("cut"))

    @rule(size=st.integers(1, 600))
    @precondition(lambda self: self.session is not None)
    def server_to_client(self, size: int) -> None:
        assert self.session is not None
        self.down += self.session.take()
        self.arrive(size)

    @rule()
    def everything_arrives(self) -> None:
        self.exchange()

    @rule()
    @precondition(lambda self: self.session is not None)
    def the_connection_breaks(self) -> None:
        self.cut(ConnectionLost("cut"))

    @rule()
    @precondition(lambda self: self.session is None)
    def the_connection_is_back(self) -> None:
        self.connect()

    @rule(seconds=st.sampled_from([0.1, 1.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.session is not None:
            try:
                self.protocol.tick(self.now)
            except ConnectionLost as error:
                self.cut(error)

    # What people and devices do.

    @rule(conv=CONVS)
    def bob_writes(self, conv: str) -> None:
        self.server.post(self.bob, conv, self.text())

    @rule(conv=CONVS)
    def the_other_device_writes(self, conv: str) -> None:
        self.server.post(self.alice, conv, self.text(), key=f"device-{self.counter}")

    @rule(conv=CONVS)
    def the_other_device_receives(self, conv: str) -> None:
        self.server.received(self.alice, conv, len(self.server.logs.get(conv, [])))

    @rule(conv=CONVS, count=st.integers(1, 4))
    def alice_writes(self, conv: str, count: int) -> None:
        kind, to = (Kind.GROUP, 1) if conv == GROUP else (Kind.DIRECT, self.bob.id)
        for _ in range(count):
            text = self.text()
            self.sent[conv].append(text)
            self.requests.append(self.protocol.send(kind, to, text, None, self.now))

    @rule(count=st.integers(1, 5))
    def the_application_takes(self, count: int) -> None:
        for _ in range(count):
            for conv, messages in self.taken.items():
                self.processed[conv] = messages[-1].seq if messages else 0
            message = self.protocol.take(self.now)
            if message is not None:
                self.taken[message.conv].append(message)

    def receipt_came(self, conv: str, seq: int) -> None:
        assert seq <= self.processed[conv], "what the application has not processed is receipted"

    # What goes wrong.

    @rule(error=st.sampled_from([Unavailable, ShuttingDown]), count=st.integers(1, 3))
    def the_server_refuses(self, error: type[RequestError], count: int) -> None:
        self.server.refusals.extend(error() for _ in range(count))

    @rule()
    def the_server_limits(self) -> None:
        self.server.refusals.append(RateLimited(2.0))

    @rule()
    def the_login_is_put_off(self) -> None:
        self.server.login_refusals.append(Unavailable())

    @rule()
    def the_token_expires(self) -> None:
        self.alice.tokens.clear()

    @rule(mute=st.booleans())
    def replies_are_lost(self, *, mute: bool) -> None:
        self.server.mute = mute
        if not mute:
            # A lost reply shows only when the connection breaks.
            self.cut(ConnectionLost("cut"))

    @rule()
    def receipts_are_lost(self) -> None:
        self.exchange()
        self.the_application_takes(5)
        self.time_passes(1.0)
        if self.session is not None:
            self.protocol.take_output()
            self.cut(ConnectionLost("cut"))

    # What must always be true.

    @invariant()
    def each_conversation_is_shown_in_order_and_once(self) -> None:
        for conv, messages in self.taken.items():
            seqs = [message.seq for message in messages]
            assert seqs == sorted(set(seqs))
            if seqs:
                log = self.server.logs[conv]
                ours = {m["seq"] for m in log if m["msg"] in self.sent[conv]}
                assert set(range(seqs[0], seqs[-1] + 1)) - set(seqs) <= ours, "a hole was shown"
                assert not ours & set(seqs), "an own message was shown"
                assert all(m.text == log[m.seq - 1]["msg"] for m in messages)

    @invariant()
    def each_message_is_stored_once_and_in_order(self) -> None:
        for conv, texts in self.sent.items():
            stored = [m["msg"] for m in self.server.logs.get(conv, []) if m["msg"] in texts]
            assert stored == texts[: len(stored)]

    def settle(self) -> None:
        """Long enough for every back-off; a server that shuts down is connected to again."""
        for _ in range(60):
            self.exchange()
            self.the_application_takes(3)
            self.time_passes(1.0)
            if self.session is None:
                self.connect()

    def teardown(self) -> None:
        """When everything works again, everything gets where it belongs."""
        self.server.refusals.clear()
        self.server.login_refusals.clear()
        self.server.mute = False
        self.cut(ConnectionLost("cut"))
        self.connect()
        self.settle()
        self.server.post(self.bob, DIRECT, self.text())
        self.receipts_are_lost()
        self.connect()
        self.settle()
        self.each_conversation_is_shown_in_order_and_once()
        self.each_message_is_stored_once_and_in_order()
        assert self.protocol.state is State.ONLINE
        for request in self.requests:
            assert request.answer is not None
            stored: dict[str, Any] = self.server.logs[request.answer["conv"]][request.answer["seq"] - 1]
            assert stored["msg"] == request.fields["msg"]
        for conv, messages in self.taken.items():
            log = self.server.logs.get(conv, [])
            assert sum(m["msg"] in self.sent[conv] for m in log) == len(self.sent[conv])
            if messages:
                others = [m["seq"] for m in log if m["msg"] not in self.sent[conv]]
                assert messages[-1].seq == others[-1], "something never came"
            assert self.server.cursor(self.alice, conv) == len(log), "something is not receipted"


Chatting.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestChatting = Chatting.TestCase
