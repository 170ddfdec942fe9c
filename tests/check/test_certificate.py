"""`check` on the server's own certificate: expired, soon to, for nobody, with another's key."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from trio_chat.check.certificate import check_certificate
from trio_chat.check.finding import Level

NOW = dt.datetime(2030, 6, 1, tzinfo=dt.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make(
    directory: Path, *, days: int = 90, begins: int = -1, name: str = "chat.example.org", key: Key | None = None
) -> tuple[Path, Path]:
    """A certificate that signs itself and its key, valid from and for so many days, seen from `NOW`."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trio-chat")])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(NOW + dt.timedelta(days=begins))
    builder = builder.not_valid_after(NOW + dt.timedelta(days=days))
    if name:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate, private = directory / "chat.pem", directory / "chat-key.pem"
    certificate.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    private.touch(0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


def bad(certificate: Path, key: Path | None) -> dict[Level, str]:
    found = [each for each in check_certificate(certificate, key, NOW) if each.level is not Level.OK]
    assert len({each.level for each in found}) == len(found), found
    return {each.level: f"{each.says} | {each.do}" for each in found}


def test_a_good_one(tmp_path: Path) -> None:
    certificate, key = make(tmp_path)
    (finding,) = check_certificate(certificate, key, NOW)
    assert finding.says == "the certificate is for chat.example.org, until 2030-08-30"


def test_both_in_one_file(tmp_path: Path) -> None:
    certificate, key = make(tmp_path)
    key.write_bytes(key.read_bytes() + certificate.read_bytes())
    assert bad(key, None) == {}
    key.chmod(0o644)
    assert f"chmod 600 {key}" in bad(key, None)[Level.WARNING]


@pytest.mark.parametrize(
    ("days", "begins", "level", "text"),
    [
        (-1, -90, Level.PROBLEM, "expired on 2030-05-31"),
        (10, -1, Level.WARNING, "expires in 10 days"),
        (90, 1, Level.PROBLEM, "valid from 2030-06-02"),
    ],
)
def test_times(tmp_path: Path, days: int, begins: int, level: Level, text: str) -> None:
    assert text in bad(*make(tmp_path, days=days, begins=begins))[level]


def test_one_for_nobody(tmp_path: Path) -> None:
    assert "names no host" in bad(*make(tmp_path, name=""))[Level.WARNING]


def test_a_short_key(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be told of
    findings = bad(*make(tmp_path, key=key))
    # OpenSSL itself may refuse it already.
    assert "1024 bits" in findings.get(Level.WARNING, "") or Level.PROBLEM in findings


def test_another_s_key_and_no_files(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, _ = make(tmp_path)
    _, other = make(tmp_path / "other")
    assert "cannot be used" in bad(certificate, other)[Level.PROBLEM]
    assert "No such file" in bad(tmp_path / "missing.pem", None)[Level.PROBLEM]
    assert "cannot be used" in bad(other, other)[Level.PROBLEM]
