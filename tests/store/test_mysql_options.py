"""The database URL, and that no text about it has the password."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.certificates import Authority
from trio_chat.errors import StartupError
from trio_chat.store.mysql import MySQL
from trio_chat.store.mysql_options import MySQLOptions, parse_url


def parse(url: str) -> MySQLOptions:
    return parse_url(url, timeout=3, pool=8)


def test_all_parts_are_decoded() -> None:
    options = parse("mysql://us%40er:p%2F%23%3F%40ss%25+w@db.example:3307/chat%2Ddb?unix_socket=/run/my%20sql+1.sock")
    assert (options.user, options.password, options.host, options.port) == ("us@er", "p/#?@ss%+w", "db.example", 3307)
    assert (options.database, options.unix_socket, options.tls) == ("chat-db", "/run/my sql+1.sock", None)


def test_most_parts_have_a_default() -> None:
    options = parse("mariadb://me@[::1]/chat")
    assert (options.password, options.host, options.port, options.place) == ("", "::1", 3306, "[::1]:3306")


def test_tls(authority: Authority) -> None:
    system = parse("mysql://me@h/d?ssl=verify").tls
    assert system is not None
    assert system.check_hostname
    ours = parse(f"mysql://me@h/d?ssl_ca={authority.certificate}").tls
    assert ours is not None
    assert (ours.check_hostname, len(ours.get_ca_certs())) == (True, 1)
    unnamed = parse(f"mysql://me@h/d?ssl=verify-ca&ssl_ca={authority.certificate}").tls
    assert unnamed is not None
    assert (unnamed.check_hostname, unnamed.verify_mode.name) == (False, "CERT_REQUIRED")
    assert parse("mysql://me@h/d?ssl=off").tls is None


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://me:hunter2@h/d?socket=/x", "'socket'"),
        ("mysql://me:hunter2@h/d?ssl=yes", "'verify', 'verify-ca' or 'off'"),
        ("mysql://me:hunter2@h/d?ssl=off&ssl_ca=/x", "ssl=off"),
        ("mysql://me:hunter2@h/d?ssl=verify-ca", "ssl=verify-ca"),
        ("mysql://me:hunter2@h/d?ssl=verify&unix_socket=/x", "unix socket"),
        ("mysql://me:hunter2@h/d?ssl_ca=/no/such/file", "/no/such/file"),
        ("mysql://me:hunter2@h/", "needs a user and a database"),
        ("mysql://h/d", "needs a user and a database"),
        ("postgres://me:hunter2@h/d", "not valid"),
        ("mysql://me:hunter2@h:port/d", "not valid"),
        # Passwords that should have been encoded.
        ("mysql://me:hunter2/x@h/d", "not valid"),
        ("mysql://me:hunter2#x@h/d", "not valid"),
        ("mysql://me:77?hunter2@h/d", "not valid"),
        ("mysql://me:77?hunter2=1&ssl=off@h/d", "not valid"),
        ("mysql://me:[hunter2@h/d", "not valid"),
        ("mysql://me:x@h/d?hunter2!=1", "one that is not a name"),
    ],
)
def test_a_wrong_url_is_explained_without_the_password(url: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        parse(url)
    assert text in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_file_without_certificates(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(StartupError, match="it has no certificate"):
        parse(f"mysql://me@h/d?ssl_ca={tmp_path}/empty.pem")


def test_no_form_of_it_shows_the_password() -> None:
    database = MySQL.from_url("mysql://me:hunter2@h:1/d")
    assert "hunter2" not in f"{database} {database!r} {database.options}"
    assert repr(database) == "<MySQL me@h:1/d>"
