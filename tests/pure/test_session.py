"""The session's table, cell by cell, and a walk over it that knows nothing of the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.pure.bounds import BOUNDED
from trio_chat.commands import COMMANDS, DEAF
from trio_chat.errors import AlreadyLoggedIn, NotLoggedIn, RequestError
from trio_chat.session import TRANSITIONS, Dialect, Identity, Session, State, diagram
from trio_chat.wire.messages import REQUESTS, Kind

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"

ANN = Identity(7, "ann")

#: What the protocol allows: in each state the requests, and the error that any other gets.
ALLOWED = {
    State.ANONYMOUS: {Kind.HELLO, Kind.REGISTER, Kind.LOGIN, Kind.PING, Kind.PONG},
    State.LOGGED_IN: set(REQUESTS) - {Kind.HELLO, Kind.REGISTER, Kind.LOGIN},
    State.CLOSED: set(),
}
REFUSAL = {State.ANONYMOUS: NotLoggedIn, State.LOGGED_IN: AlreadyLoggedIn, State.CLOSED: NotLoggedIn}

CELLS = [(state, kind) for state in State for kind in Kind]
LEGAL = [(state, kind) for state, kind in CELLS if kind in ALLOWED[state]]
ILLEGAL = [cell for cell in CELLS if cell not in LEGAL]

#: The outcomes that a session is told of.
OUTCOMES: dict[Kind, Callable[[Session], None]] = {
    Kind.HELLO: Session.greeted,
    Kind.LOGIN: lambda session: session.logged_in(ANN),
    Kind.LOGOUT: Session.logged_out,
    Kind.LOGOUT_EVERYWHERE: lambda session: session.logged_out(Kind.LOGOUT_EVERYWHERE),
    Kind.DELETE_ACCOUNT: lambda session: session.logged_out(Kind.DELETE_ACCOUNT),
}


def cell_id(value: State | Kind) -> str:
    return value.name


def session_in(state: State, dialect: Dialect = Dialect.CLASSIC) -> Session:
    """A session brought into a state the way a connection does it."""
    session = Session()
    if dialect is Dialect.MODERN:
        session.greeted()
    if state is State.LOGGED_IN:
        session.logged_in(ANN)
    if state is State.CLOSED:
        session.close()
    return session


def facts(session: Session) -> tuple[State, Dialect, Identity | None]:
    return session.state, session.dialect, session.identity


# -- the table ------------------------------------------------------------------------------------------------------------


def test_a_session_begins_anonymous_and_classic() -> None:
    assert facts(Session()) == (State.ANONYMOUS, Dialect.CLASSIC, None)


@pytest.mark.parametrize(("state", "kind"), LEGAL, ids=cell_id)
@pytest.mark.parametrize("dialect", Dialect, ids=lambda dialect: dialect.name)
def test_a_legal_request_is_allowed_and_changes_nothing_yet(state: State, kind: Kind, dialect: Dialect) -> None:
    session = session_in(state, dialect)
    before = facts(session)
    session.check(kind)
    assert facts(session) == before


@pytest.mark.parametrize(("state", "kind"), ILLEGAL, ids=cell_id)
@pytest.mark.parametrize("dialect", Dialect, ids=lambda dialect: dialect.name)
def test_an_illegal_request_is_refused_and_changes_nothing(state: State, kind: Kind, dialect: Dialect) -> None:
    session = session_in(state, dialect)
    before = facts(session)
    with pytest.raises(REFUSAL[state]):
        session.check(kind)
    assert facts(session) == before


@pytest.mark.parametrize(("state", "kind"), [cell for cell in CELLS if cell[1] in OUTCOMES], ids=cell_id)
def test_an_outcome_moves_the_session_exactly_where_its_request_is_legal(state: State, kind: Kind) -> None:
    session = session_in(state)
    before = facts(session)
    if (state, kind) in LEGAL:
        OUTCOMES[kind](session)
        assert session.state is TRANSITIONS[state, kind]
    else:
        with pytest.raises(REFUSAL[state]):
            OUTCOMES[kind](session)
        assert facts(session) == before


def test_only_a_login_and_what_ends_one_change_the_state() -> None:
    moves = {(before, kind, after) for (before, kind), after in TRANSITIONS.items() if before is not after}
    assert moves == {
        (State.ANONYMOUS, Kind.LOGIN, State.LOGGED_IN),
        (State.LOGGED_IN, Kind.LOGOUT, State.ANONYMOUS),
        (State.LOGGED_IN, Kind.LOGOUT_EVERYWHERE, State.ANONYMOUS),
        (State.LOGGED_IN, Kind.DELETE_ACCOUNT, State.ANONYMOUS),
    }


def test_the_dialect_outlives_a_logout() -> None:
    session = session_in(State.LOGGED_IN, Dialect.MODERN)
    session.logged_out()
    assert facts(session) == (State.ANONYMOUS, Dialect.MODERN, None)


@pytest.mark.parametrize("state", State, ids=cell_id)
def test_any_session_may_be_closed_any_number_of_times(state: State) -> None:
    session = session_in(state)
    session.close()
    session.close()
    assert facts(session) == (State.CLOSED, Dialect.CLASSIC, None)


# -- the tables agree -----------------------------------------------------------------------------------------------------


def test_the_table_has_the_legal_cells_and_no_others() -> None:
    assert set(TRANSITIONS) == set(LEGAL)


def test_every_request_has_its_row_in_every_table() -> None:
    assert set(COMMANDS) == set(REQUESTS) == {kind for _, kind in TRANSITIONS}
    assert set(REQUESTS) >= DEAF


def test_nothing_leads_into_closed_but_the_end_of_the_connection() -> None:
    assert State.CLOSED not in TRANSITIONS.values()


@pytest.mark.parametrize("kind", COMMANDS, ids=cell_id)
def test_every_command_does_something(kind: Kind) -> None:
    assert COMMANDS[kind].now or COMMANDS[kind].later


# -- the diagram ----------------------------------------------------------------------------------------------------------


def test_the_diagram_shows_every_row() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == len(set(lines))
    for (state, kind), after in TRANSITIONS.items():
        names = [each.value.replace("-", "_") for each in (state, after)]
        assert f"    {names[0]} --> {names[1]}: {kind.name}" in lines
    assert sum(": end of the connection" in line for line in lines) == 2


def test_the_architecture_document_shows_the_table() -> None:
    text = ARCHITECTURE.read_text() if ARCHITECTURE.exists() else ""
    assert f"```mermaid\n{diagram()}\n```" in text, (
        "docs/architecture.md does not show the session's table as it is. Paste what this prints between "
        '```mermaid and ```: python -c "from trio_chat.session import diagram; print(diagram())"'
    )


# -- a walk ---------------------------------------------------------------------------------------------------------------


class Walk(RuleBasedStateMachine):
    """Requests and outcomes in any order; the model is three facts and no table."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.online: Identity | None = None
        self.modern = False
        self.closed = False

    @property
    def anonymous(self) -> bool:
        return not self.closed and self.online is None

    @rule(kind=st.sampled_from(Kind))
    def request(self, kind: Kind) -> None:
        before = facts(self.session)
        try:
            self.session.check(kind)
        except RequestError:
            allowed = False
        else:
            allowed = True
        assert facts(self.session) == before
        assert allowed == (kind in ALLOWED[self.session.state])

    @rule()
    def greeted(self) -> None:
        if self.anonymous:
            self.session.greeted()
            self.modern = True
        else:
            self.refused(Kind.HELLO)

    @rule(userid=st.integers(1, 3))
    def logged_in(self, userid: int) -> None:
        if self.anonymous:
            self.online = Identity(userid, f"user{userid}")
            self.session.logged_in(self.online)
        else:
            self.refused(Kind.LOGIN)

    @rule()
    def logged_out(self) -> None:
        if self.online:
            self.session.logged_out()
            self.online = None
        else:
            self.refused(Kind.LOGOUT)

    @precondition(lambda self: self.anonymous or self.online)
    @rule(sure=st.sampled_from([False, False, False, True]))
    def close(self, sure: bool) -> None:
        if sure:
            self.session.close()
            self.online, self.closed = None, True

    def refused(self, kind: Kind) -> None:
        before = facts(self.session)
        with pytest.raises((NotLoggedIn, AlreadyLoggedIn)):
            OUTCOMES[kind](self.session)
        assert facts(self.session) == before

    @invariant()
    def facts_are_what_the_outcomes_made_them(self) -> None:
        state = State.CLOSED if self.closed else State.LOGGED_IN if self.online else State.ANONYMOUS
        assert facts(self.session) == (state, Dialect.MODERN if self.modern else Dialect.CLASSIC, self.online)

    @invariant()
    def identity_is_set_exactly_while_logged_in(self) -> None:
        assert (self.session.identity is not None) == (self.session.state is State.LOGGED_IN)


TestWalk = Walk.TestCase
TestWalk.settings = settings(BOUNDED, max_examples=60, stateful_step_count=20)
