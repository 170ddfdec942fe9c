"""TLS upon another transport: the library's sans-IO form, so one kind of connection lies upon plain TCP and upon this.

Nothing here waits for a client: the kernel is offered ciphertext, and what it does not take is kept, as it is, until it
does. That is at most what one call of `send_nowait` encrypts.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final, NoReturn

from trio_chat.transport.contract import End, Reader, Transport, TransportBroken
from trio_chat.transport.reading import receive_from

__all__ = ["TlsTransport"]

#: Bytes that go through the library's buffers at a time: these keep the size that they once had.
_SLICE: Final = 4096
#: The longest plaintext of a record that a client may send.
_RECORD: Final = 16384
#: Plaintext that is encrypted for one system call.
_AT_ONCE: Final = 65536
#: Bytes of TLS's own (answers to requests for new keys) that wait for a client to read; over it the client floods.
_OWN: Final = 4096


class TlsTransport:
    """The server's side of TLS; `handshake` comes first.

    An end of the stream without TLS's own farewell counts as an end: every frame is complete in itself, so a connection
    that was cut hides nothing.
    """

    kind = "tls"

    __slots__ = (
        "_begun",
        "_begun_size",
        "_ended",
        "_incoming",
        "_inner",
        "_outgoing",
        "_over",
        "_own",
        "_reader",
        "_rest",
        "_tls",
    )

    def __init__(self, inner: Transport, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._reader: Reader | None = None
        # Received and not yet given to the library.
        self._rest = b""
        # Ciphertext that waits for the kernel, of how many bytes of the caller's, and how much is TLS's own.
        self._begun = b""
        self._begun_size = 0
        self._own = 0
        # The client has said that it ends its half; we have said so, and that nothing more is read.
        self._ended = False
        self._over = False

    @property
    def peer(self) -> str:
        return self._inner.peer

    @property
    def committed(self) -> int:
        return self._begun_size

    async def handshake(self) -> None:
        """Agree on keys. No limit of time: the caller sets a deadline. Raises `TransportBroken`, with the reason.

        Cancelling leaves a transport that is good for nothing but `close`.
        """
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self._fail(error)
            self._collect()
            while not self._flush():
                await self._inner.wait_writable()
            if not done and not self._feed():
                self._rest = await self._inner.receive()
                if not self._feed():
                    raise TransportBroken("the client left")

    # -- receiving ----------------------------------------------------------------------------------------------------

    def attend(self, reader: Reader) -> None:
        self._reader = reader
        if self._over or self._hand_over():
            self._inner.attend(self)

    def ignore(self) -> None:
        self._inner.ignore()

    async def receive(self) -> bytes:
        return await receive_from(self)

    def received(self, data: bytes) -> bool:
        """The transport below gives ciphertext."""
        if self._over:
            # All that matters now is the end; whatever else comes is dropped.
            return True
        self._rest = data
        return self._hand_over()

    def ended(self, failure: Exception | None) -> None:
        """The transport below says that nothing more comes."""
        self._ended = True
        assert self._reader is not None
        self._reader.ended(failure)

    def _hand_over(self) -> bool:
        """Give what can be decrypted to the reader; returns whether to read on."""
        assert self._reader is not None
        try:
            data = b"" if self._ended else self._read()
        except Exception as error:  # noqa: BLE001 - it is the reader's to judge
            self._reader.ended(error)
            return False
        if data and not self._reader.received(data):
            return False
        if self._ended:
            self._reader.ended(None)
        return not self._ended

    def _feed(self) -> bool:
        """Give the library more of what has come; False where there is nothing."""
        if not self._rest:
            return False
        self._incoming.write(self._rest[:_SLICE])
        self._rest = self._rest[_SLICE:]
        return True

    def _read(self) -> bytes:
        """All that can be decrypted now. Raises `TransportBroken`."""
        pieces = []
        while self._incoming.pending or self._feed():
            try:
                piece = self._tls.read(_RECORD)
            except ssl.SSLWantReadError:
                continue  # it has taken all of the slice
            except ssl.SSLError as error:
                self._fail(error)
            if not piece:
                self._ended = True
                break
            pieces.append(piece)
        if self._outgoing.pending:
            self._collect()
            self._flush()
            if self._own > _OWN:
                raise TransportBroken("it asks for new keys and does not read")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # -- sending ------------------------------------------------------------------------------------------------------

    def send_nowait(self, data: bytes) -> int:
        """As in the contract; what was encrypted is counted when all of it has been handed to the kernel."""
        if self._over:
            raise TransportBroken("the end was said")
        count = self._begun_size
        if not self._flush():
            return 0
        size = min(len(data), count + _AT_ONCE) - count
        if size > 0:
            try:
                for start in range(count, count + size, _SLICE):
                    self._tls.write(data[start : min(start + _SLICE, count + size)])
                    self._begun += self._outgoing.read()
            except ssl.SSLError as error:
                raise TransportBroken(_reason(error)) from error
            self._begun_size = size
            if self._flush():
                count += size
        return count

    async def wait_writable(self) -> None:
        await self._inner.wait_writable()

    def _collect(self) -> None:
        """Take over what TLS has to say of itself."""
        own = self._outgoing.read()
        self._begun += own
        self._own += len(own)

    def _flush(self) -> bool:
        """Send ciphertext; returns whether all of it is gone."""
        if self._begun:
            self._begun = self._begun[self._inner.send_nowait(self._begun) :]
            if self._begun:
                return False
        self._begun_size = self._own = 0
        return True

    # -- the end ------------------------------------------------------------------------------------------------------

    def end(self, reason: End) -> bool:
        """Say that nothing more comes; behind ciphertext that the kernel has no room for it is lost."""
        if not self._over:
            self._over = True
            with contextlib.suppress(ssl.SSLError):
                # It would like to read the client's farewell too.
                self._tls.unwrap()
            self._collect()
            with contextlib.suppress(TransportBroken):
                self._flush()
        return self._inner.end(reason)

    def close(self) -> None:
        self.end(End.FAILED)
        self._inner.close()
        self._reader = None

    def _fail(self, error: ssl.SSLError) -> NoReturn:
        """Tell the client why, as far as it can be told. Raises `TransportBroken`."""
        self._over = True
        self._collect()
        with contextlib.suppress(TransportBroken):
            self._flush()
        raise TransportBroken(_reason(error)) from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
