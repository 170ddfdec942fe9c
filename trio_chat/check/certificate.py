"""The certificate that the server shows its clients, and its key."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from trio_chat.check.files import check_private
from trio_chat.check.finding import Finding, ok, problem, warning

__all__ = ["check_certificate"]

_PART = "tls"
#: Those who renew by themselves do it thirty days before the end.
_SOON = dt.timedelta(days=21)
_SHORT = 2048


def check_certificate(certificate: Path, key: Path | None, now: dt.datetime) -> Iterator[Finding]:
    """Look at both files; without `key` it is in the certificate's. `now` is aware of its time zone."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The password function keeps OpenSSL from asking the terminal for the one of an encrypted key.
        context.load_cert_chain(certificate, key, password=lambda: "")
        found = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else str(error)
        yield problem(
            _PART,
            f"{certificate} and its key {key or ''} cannot be used: {reason}".replace("  ", " "),
            "both in PEM, without a password, readable for the server's user, the key that the certificate was made for",
        )
        return
    yield from check_private(_PART, key or certificate, "the private key")
    yield from _time(found, now)
    yield from _strength(found)


def _time(certificate: x509.Certificate, now: dt.datetime) -> Iterator[Finding]:
    end = certificate.not_valid_after_utc
    names = ", ".join(_names(certificate)) or "no name"
    if now >= end:
        yield problem(_PART, f"the certificate for {names} expired on {end:%Y-%m-%d}", "renew it, and send SIGHUP")
    elif now < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc
        yield problem(
            _PART, f"the certificate for {names} is valid from {begin:%Y-%m-%d %H:%M} UTC on", "set the clock"
        )
    elif end - now < _SOON:
        days = (end - now).days
        yield warning(_PART, f"the certificate for {names} expires in {days} days", "renew it, and send SIGHUP")
    else:
        yield ok(_PART, f"the certificate is for {names}, until {end:%Y-%m-%d}")
    if names == "no name":
        yield warning(
            _PART, "the certificate names no host (subjectAltName): no client accepts it", "one for the server's name"
        )


def _strength(certificate: x509.Certificate) -> Iterator[Finding]:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SHORT:
        yield warning(
            _PART, f"its key has {key.key_size} bits, which is too short", f"RSA of {_SHORT} bits, or a curve"
        )


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]
