"""The certificate that the server shows, with its key: two files in PEM, read at the start and when asked to."""

from __future__ import annotations

import datetime as dt
import ssl
import stat
from pathlib import Path

import structlog

from trio_chat.errors import StartupError

__all__ = ["Certificate"]

log = structlog.get_logger(__name__)

#: A certificate that ends within this time is worth a warning.
_SOON = dt.timedelta(days=14)


class Certificate:
    """What new TLS connections are made with.

    `context` is replaced by `reload`; connections keep the one that they began with. `expires` is in seconds since the
    epoch.
    """

    context: ssl.SSLContext
    expires: float

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the files. Raises `StartupError` that names the file and what is wrong with it."""
        self._certificate = certificate
        self._key = key
        self._load()

    def reload(self) -> bool:
        """Read the files again; where they are of no use the old ones stay, and it is logged. Returns whether it worked."""
        try:
            self._load()
        except StartupError as error:
            log.error("the certificate was not reloaded; the former one stays", reason=str(error))
            return False
        return True

    def _load(self) -> None:
        expires = _expiry(self._certificate)
        _check_readable(self._key, "--tls-key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # What HTTP is spoken here; and nobody makes the server compute new keys again and again.
        context.set_alpn_protocols(["http/1.1"])
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            # The password function keeps OpenSSL from asking the terminal for the one of an encrypted key.
            context.load_cert_chain(self._certificate, self._key, password=lambda: "")
        except ssl.SSLError as error:
            raise StartupError(f"--tls-cert {self._certificate} with --tls-key {self._key}: {_reason(error)}") from None
        self.context, self.expires = context, expires.timestamp()
        if stat.S_IMODE(self._key.stat().st_mode) & stat.S_IROTH:
            log.warning(
                "everybody on this machine can read the key", file=str(self._key), remedy=f"chmod 600 {self._key}"
            )
        left = expires - dt.datetime.now(dt.UTC)
        say = log.warning if left < _SOON else log.info
        say(
            "certificate loaded", file=str(self._certificate), ends=f"{expires:%Y-%m-%d %H:%M} UTC", days_left=left.days
        )


def _expiry(file: Path) -> dt.datetime:
    # Here, because it takes its time, and a server without TLS never needs it.
    from cryptography import x509  # noqa: PLC0415

    pem = _check_readable(file, "--tls-cert")
    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except ValueError:
        raise StartupError(f"--tls-cert {file}: it has no certificate in PEM") from None


def _check_readable(file: Path, flag: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"{flag} {file}: {error.strerror}") from None


def _reason(error: ssl.SSLError) -> str:
    reason = getattr(error, "reason", None)  # of some errors OpenSSL has no more to say
    if reason == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    if not isinstance(reason, str):
        return (
            "the key is not in PEM, or it is encrypted (give one that is not, in a file that only the server can read)"
        )
    return reason.lower().replace("_", " ")
