"""What waits to be sent on one connection: frames, bounded in bytes, and the receipts that sending them gives. Pure."""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter

__all__ = ["Outbox", "Receipt"]

#: An account, a conversation and a seq in it: the account has received everything up to it once the frame has been
#: handed to the kernel. The account is named because by then somebody else may be logged in on the connection.
Receipt = tuple[int, str, int]


class _Marks:
    """What only an outbox with deliveries to a classic client has."""

    __slots__ = ("droppable", "receipts")

    def __init__(self) -> None:
        # Which of the frames, counted from 0, `drop_deliveries` takes away.
        self.droppable: list[int] = []
        # Where in the stream of all bytes ever queued they are due, and the receipts.
        self.receipts: list[tuple[int, Receipt]] = []


class Outbox:
    """A queue of frames without their terminators.

    `size` is in bytes. The queue itself never refuses a frame; `over` says when it holds more than `limit` bytes, and
    whoever sees that closes the connection: the client gets the rest after its next login. One frame that is over the
    limit all by itself (a LOGIN_ACK with very many friends) is not counted: no client could ever read it fast enough.
    """

    __slots__ = ("_frames", "_large", "_marked", "_rest", "_sent", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._frames: list[bytes] = []
        # Made when there are some: most connections never have any.
        self._marked: _Marks | None = None
        self._rest = b""
        # Up to where the stream of all bytes ever queued was sent.
        self._sent = 0
        # The frame that is not counted: its size, and the position of its end.
        self._large = (0, 0)

    def __bool__(self) -> bool:
        return self.size > 0

    @property
    def over(self) -> bool:
        return self.size - self._large[0] > self.limit

    def push(self, frame: bytes, receipts: tuple[Receipt, ...] = (), *, delivery: bool = False) -> None:
        """Queue a frame; `receipts` are due when it has been sent whole. `drop_deliveries` forgets a `delivery`."""
        if delivery:
            self._marks.droppable.append(len(self._frames))
        self._frames.append(frame)
        self.size += len(frame) + 1
        if len(frame) >= self.limit and not self._large[0]:
            self._large = (len(frame) + 1, self._sent + self.size)
        if receipts:
            due = self._sent + self.size
            self._marks.receipts.extend((due, receipt) for receipt in receipts)

    def mark(self, receipt: Receipt) -> None:
        """`receipt` is due when everything that is queued now has been sent; `sent(0)` gives it where nothing is."""
        self._marks.receipts.append((self._sent + self.size, receipt))

    def drop_deliveries(self) -> None:
        """Forget the deliveries that were not taken yet, and every receipt but those for what was taken."""
        if self._marked is None or not self._marked.droppable:
            return
        dropped, receipts = set(self._marked.droppable), self._marked.receipts
        self._frames = [frame for place, frame in enumerate(self._frames) if place not in dropped]
        self._marked.droppable.clear()
        self.size = len(self._rest) + sum(len(frame) + 1 for frame in self._frames)
        while receipts and receipts[-1][0] > self._sent + len(self._rest):
            receipts.pop()

    def take(self, terminator: bytes) -> bytes:
        """Everything that is to be sent, terminators included. Tell `sent` how much of it went out."""
        frames = self._frames
        if frames:
            if len(frames) == 1:
                self._rest += frames[0] + terminator
            else:
                frames.append(b"")
                self._rest += terminator.join(frames)
            frames.clear()
            if self._marked is not None:
                self._marked.droppable.clear()
        return self._rest

    def take_frame(self, terminator: bytes) -> bytes:
        """Like `take`, for at most one frame: what is left of what was taken before, or else the next frame."""
        if not self._rest and self._frames:
            self._rest = self._frames.pop(0) + terminator
            if self._marked is not None:
                self._marked.droppable = [place - 1 for place in self._marked.droppable if place]
        return self._rest

    def sent(self, count: int) -> list[Receipt]:
        """`count` bytes of what was taken have been handed to the kernel. Returns the receipts now due."""
        self._rest = self._rest[count:]
        self.size -= count
        self._sent += count
        if self._large[0] and self._sent >= self._large[1]:
            self._large = (0, 0)
        if self._marked is None or not self._marked.receipts:
            return []
        waiting = self._marked.receipts
        due = bisect_right(waiting, self._sent, key=itemgetter(0))
        receipts = [receipt for _, receipt in waiting[:due]]
        del waiting[:due]
        return receipts

    @property
    def _marks(self) -> _Marks:
        if self._marked is None:
            self._marked = _Marks()
        return self._marked
