# Made from cosession/aio/watch.py by tests/client/unasync.py; change that one.
"""A watch: changes in order, from a connection of its own, across reconnects without a gap or a repeat.

Rule: all knowledge of positions is in `exchange.cursor`; here events are fetched and links replaced.
"""

from __future__ import annotations

from collections import deque
from typing import Self

from msgspec.structs import replace

from cosession.errors import Closed, CosessionError, TimedOut, Unreachable
from cosession.exchange.calls import LinkLost
from cosession.exchange.cursor import WatchCursor, WatchItem
from cosession.messages.watches import Watch as Request
from cosession.positions import RECONNECT_S
from cosession.retries import back_off_s

from .io import Link, Startable, now, pause
from .linking import Common, open_link


class Watch(Startable):
    """An iterator over changes: `Change`, and `Reset` where what came before no longer stands.

    Iterating waits without end, or raises TimedOut after the `timeout_s` of `Client.watch` without a change, and may
    then go on. It raises Compacted, EpochChanged or Unreachable when the watch cannot be continued, and stops after
    `close()`. One consumer at a time.

    `revision` and `epoch`: everything up to there has been handed out or is about to be. Where `synced` is True and the
    iteration has been emptied, that is after TimedOut, a later watch with `start_revision=revision + 1, epoch=epoch`
    continues exactly there.
    """

    def __init__(self, common: Common, request: Request, *, snapshot: bool, timeout_s: float | None) -> None:
        self._common = common
        self._request = request
        self._live_only = not snapshot and not request.start_revision
        self._timeout_s = timeout_s
        self._cursor: WatchCursor | None = None
        self._link: Link | None = None
        self._items: deque[WatchItem] = deque()
        self._lost_at: float | None = None
        self._closed = False

    @property
    def revision(self) -> int:
        """The store's revision up to which this watch has fetched; 0 before it started."""
        return self._cursor.revision if self._cursor else 0

    @property
    def epoch(self) -> str:
        """The epoch that `revision` belongs to."""
        return self._cursor.epoch if self._cursor else ""

    @property
    def synced(self) -> bool:
        """Whether the snapshot has been fetched (True at once where none was asked for)."""
        return self._cursor is not None and self._cursor.synced

    def next(self, timeout_s: float | None = None) -> WatchItem:
        """The next change, waited for at most `timeout_s` seconds (None: without end).

        Raises TimedOut, Closed after `close()`, and what iterating raises.
        """
        deadline = None if timeout_s is None else now() + timeout_s
        while not self._items:
            if self._closed:
                raise Closed("cannot read this watch: it was closed")
            self._fetch(deadline)
        return self._items.popleft()

    def close(self) -> None:
        """End the watch; a consumer that waits stops. Harmless when done before."""
        self._closed = True
        link, self._link = self._link, None
        if link:
            link.close()

    def __del__(self) -> None:
        link: Link | None = getattr(self, "_link", None)
        if link:
            link.drop()  # `for change in client.watch(): ... break` ends a watch, too

    def __iter__(self) -> Self:
        """Itself: one consumer at a time."""
        return self

    def __next__(self) -> WatchItem:
        """The next change; stops after `close()`."""
        try:
            return self.next(self._timeout_s)
        except Closed:
            if not self._closed:
                raise
            raise StopIteration from None

    def _start(self) -> None:
        if not self._link and not self._closed:
            self._reattach(None)

    def _fetch(self, deadline: float | None) -> None:
        """Take one event, or replace the connection. Raises TimedOut, or what ends the watch."""
        if self._common.is_foreign:
            raise Closed("cannot read a watch that was made before fork(); open another in this process")
        link, cursor = self._link, self._cursor
        if link is None or cursor is None:
            self._reattach(deadline)
            return
        try:
            event = link.next_event(deadline)
            self._items += cursor.feed(event)
            self._common.memory.observe(event.revision)
        except TimedOut:
            raise
        except LinkLost:
            self._drop()
        except CosessionError:
            self._drop()
            raise
        if cursor.over:
            self._drop()

    def _drop(self) -> None:
        link, self._link = self._link, None
        self._lost_at = self._lost_at or now()
        if link:
            link.close()

    def _reattach(self, deadline: float | None) -> None:
        """A connection for the position reached: at once, then at growing intervals, for a bounded time."""
        give_up = now() + self._common.timeout_s if self._lost_at is None else self._lost_at + RECONNECT_S
        limit = give_up if deadline is None else min(give_up, deadline)
        attempt = 0
        while not self._closed:
            attempt += 1
            try:
                self._attach(limit)
            except (LinkLost, Unreachable, TimedOut) as error:
                if limit < give_up and now() >= limit:
                    raise TimedOut(f"cannot wait longer for a change: the daemon is away ({error})") from error
                if not isinstance(error, LinkLost) or now() >= give_up:
                    raise Unreachable(f"cannot watch: {error}") from error
            else:
                self._lost_at = None
                return
            pause(back_off_s(attempt, self._common.jitter()))

    def _attach(self, deadline: float) -> None:
        """Open a link and ask for what the cursor wants next."""
        link = open_link(self._common, self._common.target, deadline, again=self._cursor is not None)
        try:
            if self._cursor is None:
                self._cursor = WatchCursor(self._first_request(link))
            self._ask(link, self._cursor, deadline)
        except BaseException:
            link.close()
            raise
        self._link = link
        if self._closed:  # meanwhile, by another thread or task
            self.close()

    def _ask(self, link: Link, cursor: WatchCursor, deadline: float) -> None:
        while True:
            try:
                cursor.attached(link.call(cursor.request(), deadline))
            except (LinkLost, TimedOut):
                raise
            except CosessionError as error:
                if error.code == "shutting_down":
                    raise LinkLost(error.message) from None
                cursor.refused(error)
            else:
                return

    def _first_request(self, link: Link) -> Request:
        """The request as given; one for live changes only starts behind what the daemon has now."""
        if not self._live_only:
            return self._request
        return replace(self._request, start_revision=link.revision + 1, epoch=link.epoch)
