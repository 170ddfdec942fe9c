"""Receiving in a task, from a transport that gives its bytes to a reader."""

from __future__ import annotations

import trio

from trio_chat.transport.contract import Transport

__all__ = ["receive_from"]


class _Next:
    """A reader that wants one chunk."""

    __slots__ = ("_waiting", "data", "failure")

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.failure: Exception | None = None
        self._waiting: trio.lowlevel.Task | None = None

    def received(self, data: bytes) -> bool:
        self.data = data
        self._wake()
        return False

    def ended(self, failure: Exception | None) -> None:
        self.data = b""
        self.failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            trio.lowlevel.reschedule(self._waiting)

    async def wait(self, transport: Transport) -> None:
        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            transport.ignore()
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)


async def receive_from(transport: Transport) -> bytes:
    """`Transport.receive`, by the transport's `attend` and `ignore`."""
    await trio.lowlevel.checkpoint_if_cancelled()
    following = _Next()
    transport.attend(following)
    if following.data is None:
        await following.wait(transport)
    else:
        await trio.lowlevel.cancel_shielded_checkpoint()
    if following.failure is not None:
        raise following.failure
    assert following.data is not None
    return following.data
