"""Watches: a watcher is a position, not a queue.

Live, it is offered each committed batch and its position follows the store's. When its connection takes no more, it
lags: nothing is kept for it but the position, and when the connection drains it catches up from the log, a page at a
time. Below the log window it ends with `compacted`. A snapshot (`store.snapshot`) begins when the connection takes
something and is sent as it takes more, then the log from there.

Rule: an event goes out only when it is the very next thing its watcher has to see; whole batches, in order, once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from cosession.errors import CosessionError, Overloaded, TooLarge
from cosession.messages.limits import Limits
from cosession.messages.watches import WatchEvent
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Committed, Engine, EntryId
from cosessiond.store.public import changes_body, encode, public_entry
from cosessiond.store.revisions import Store
from cosessiond.store.snapshot import Snapshot

#: One page of catching up, and of a snapshot.
CATCH_UP_ROWS: Final = 256
CATCH_UP_BYTES: Final = 256 * 1024
SNAPSHOT_BYTES: Final = 64 * 1024
#: Pages being read for watchers at any one time; the others wait their turn.
CATCH_UP_READS_MAX: Final = 64
#: Idle watchers are looked at this often while the log window is written through once.
PROGRESS_PARTS: Final = 8
#: Whoever has caught up over more revisions than this, and saw none of them, is told at once.
PROGRESS_SMALL: Final = 64
#: About what the log keeps of a change besides its value.
CHANGE_BYTES: Final = 256


class Sink(Protocol):
    """The connection's end of its watches."""

    @property
    def ready(self) -> bool:
        """True while it takes more without holding more than its share of memory."""
        ...

    def event(self, watch: int, body: bytes) -> bool:
        """Send one encoded WatchEvent; False when it is larger than this connection may be sent."""
        ...

    def ended(self, watch: int) -> None:
        """The watch is over; its end event has been sent."""
        ...


class Watcher:
    """One watch: what it selects, and the next revision it has to see."""

    __slots__ = ("exact", "id", "next_revision", "prefix", "reported", "sink", "snapshot", "space_project", "state")

    def __init__(self, id: int, sink: Sink, space_project: tuple[str, str], *, prefix: str, exact: bool) -> None:
        self.id = id
        self.sink = sink
        self.space_project = space_project
        self.prefix = prefix
        self.exact = exact
        self.next_revision = 0
        self.reported = 0
        self.state = "lagging"  # live | lagging | waiting | reading | snapshot | ended
        self.snapshot: Snapshot | None = None

    def selects(self, id: EntryId) -> bool:
        """Whether a change of `id` is for this watcher."""
        if id[0] != self.space_project[0] or id[1] != self.space_project[1]:
            return False
        return id[2] == self.prefix if self.exact else id[2].startswith(self.prefix)


class WatchHub:
    """All watchers of a store."""

    def __init__(self, store: Store, metrics: Metrics, limits: Limits) -> None:
        self._store = store
        self._metrics = metrics
        self._by_place: dict[tuple[str, str], list[Watcher]] = {}
        self._by_sink: dict[Sink, dict[int, Watcher]] = {}
        self._waiting: deque[Watcher] = deque()
        self._reads = 0
        # A watcher is told at the second of these at the latest, so never more than half a window behind.
        self._progress_every = max(1, limits.log_window_revisions // PROGRESS_PARTS)
        self._progress_small = min(PROGRESS_SMALL, self._progress_every)
        self._progress_bytes = limits.log_window_bytes // PROGRESS_PARTS
        self._unreported = self._unreported_bytes = 0
        self._told = store.revision
        store.on_read = self._read_next

    def __len__(self) -> int:
        return sum(map(len, self._by_sink.values()))

    def admit(self, start_revision: int) -> None:
        """Whether a watch can begin there. Raises Compacted, or CosessionError future_revision."""
        store = self._store
        if start_revision > store.revision + 1:
            raise CosessionError(
                f"cannot watch from revision {start_revision}: the store is at {store.revision}; "
                "begin right above that or below",
                code="future_revision",
                data={"revision": store.revision},
            )
        if 0 < start_revision < store.compact_revision:
            raise store.compacted()

    def open(self, watcher: Watcher, start_revision: int) -> None:
        """Begin an admitted watch at `start_revision`, or with a snapshot when that is 0."""
        self._by_place.setdefault(watcher.space_project, []).append(watcher)
        self._by_sink.setdefault(watcher.sink, {})[watcher.id] = watcher
        if start_revision:
            watcher.next_revision = start_revision
            watcher.reported = start_revision - 1
            self._settle(watcher)
        else:
            watcher.next_revision = self._store.revision + 1
            watcher.state = "snapshot"
            self._send_snapshot(watcher)

    def close(self, sink: Sink, id: int) -> bool:
        """End one watch without a word; False when there is none."""
        watcher = self._by_sink.get(sink, {}).get(id)
        if watcher is None:
            return False
        self._forget(watcher)
        return True

    def close_sink(self, sink: Sink) -> None:
        """The connection is gone."""
        for watcher in list(self._by_sink.get(sink, {}).values()):
            self._forget(watcher)

    def drained(self, sink: Sink) -> None:
        """The connection takes more again."""
        for watcher in list(self._by_sink.get(sink, {}).values()):
            if watcher.state == "snapshot":
                self._send_snapshot(watcher)
            elif watcher.state == "lagging":
                self._settle(watcher)
            elif watcher.reported < self._told:
                self._report(watcher)

    def published(self, outcome: Committed) -> None:
        """A listener of the store: offer one batch to every live watcher it concerns."""
        bodies: dict[tuple[int, ...], bytes] = {}
        places = dict.fromkeys(change.id[:2] for change in outcome.changes)  # in their order, so that runs repeat
        for place in places:
            for watcher in tuple(self._by_place.get(place, ())):  # one may end meanwhile
                if watcher.state == "live":
                    self._offer(watcher, outcome, bodies)
        self._note_progress(outcome)

    # -- moving one watcher on -------------------------------------------------------------------------------------

    def _offer(self, watcher: Watcher, outcome: Committed, bodies: dict[tuple[int, ...], bytes]) -> bool:
        """Send what concerns this watcher of the batch; False when its connection takes no more."""
        chosen = tuple(index for index, change in enumerate(outcome.changes) if watcher.selects(change.id))
        if chosen:
            if not watcher.sink.ready:
                if watcher.state == "live":
                    watcher.state = "lagging"
                    watcher.next_revision = outcome.revision
                    self._metrics.count("watch.lagged")
                return False
            body = bodies.get(chosen)
            if body is None:
                body = bodies[chosen] = changes_body(outcome, [outcome.changes[index] for index in chosen])
            if not watcher.sink.event(watcher.id, body):
                self._end(watcher, TooLarge(f"cannot send revision {outcome.revision}: its frame is over the limit"))
                return False
            watcher.reported = outcome.revision
        watcher.next_revision = outcome.revision + 1
        return True

    def _settle(self, watcher: Watcher) -> None:
        """Live when it has seen everything, else one more page."""
        if watcher.state == "ended":
            return
        if watcher.next_revision > self._store.revision:
            watcher.state = "live"
            if self._store.revision - watcher.reported > self._progress_small:  # over what was none of its business
                self._report(watcher)
        elif not watcher.sink.ready:
            watcher.state = "lagging"
        else:
            watcher.state = "waiting"
            self._waiting.append(watcher)
            self._read_next()

    def _read_next(self) -> None:
        while self._waiting and self._reads < CATCH_UP_READS_MAX:
            watcher = self._waiting.popleft()
            if watcher.state != "waiting":
                continue
            try:
                self._store.run(_page_after(watcher.next_revision - 1), self._caught_up(watcher))
            except Overloaded:
                self._waiting.appendleft(watcher)  # `on_read` comes back here
                return
            watcher.state = "reading"
            self._reads += 1

    def _caught_up(self, watcher: Watcher) -> Callable[[Any], None]:
        def done(result: list[Committed] | CosessionError) -> None:
            self._reads -= 1
            if watcher.state == "reading":
                self._replay(watcher, result)
            self._read_next()

        return done

    def _replay(self, watcher: Watcher, result: list[Committed] | CosessionError) -> None:
        if isinstance(result, CosessionError):
            self._end(watcher, result)
            return
        for outcome in result:
            if not self._offer(watcher, outcome, {}):
                if watcher.state == "reading":
                    watcher.state = "lagging"
                return
        self._settle(watcher)

    def _begin_snapshot(self, watcher: Watcher) -> bool:
        """Take hold of what is to be sent, once the connection takes something; False when there is no room."""
        store = self._store
        watcher.snapshot = store.snapshots.begin(
            watcher.space_project, watcher.prefix, store.revision, exact=watcher.exact
        )
        watcher.next_revision = store.revision + 1
        watcher.reported = store.revision
        return watcher.snapshot is not None

    def _send_snapshot(self, watcher: Watcher) -> None:
        snapshots = self._store.snapshots
        while watcher.state == "snapshot":
            if not watcher.sink.ready:
                return
            snapshot = watcher.snapshot
            if not (self._begin_snapshot(watcher) if snapshot is None else snapshots.is_open(snapshot)):
                self._metrics.hit("snapshots")
                self._end(watcher, Overloaded("cannot send the snapshot: too many are being sent; try again soon"))
                return
            self._send_page(watcher)

    def _send_page(self, watcher: Watcher) -> None:
        """One frame of the snapshot; after the last one its end, and live."""
        snapshot = watcher.snapshot
        assert snapshot is not None
        revision = watcher.next_revision - 1
        page = [public_entry(entry) for entry in snapshot.page(self._store.index, SNAPSHOT_BYTES)]
        if page and not self._send(watcher, WatchEvent(kind="snapshot", revision=revision, entries=page)):
            return
        if snapshot.done:
            self._store.snapshots.end(snapshot)
            watcher.snapshot = None
            watcher.state = "lagging"
            if self._send(watcher, WatchEvent(kind="snapshot_end", revision=revision)):
                self._settle(watcher)

    def _send(self, watcher: Watcher, event: WatchEvent) -> bool:
        """False when it is larger than what the connection may be sent; that ends the watch."""
        if watcher.sink.event(watcher.id, encode(event)):
            return True
        self._end(watcher, TooLarge("cannot send the snapshot: a frame of it is over the limit"))
        return False

    def _note_progress(self, outcome: Committed) -> None:
        """Count how much of the log window has been written since idle watchers were last told where they stand."""
        self._unreported += 1
        self._unreported_bytes += sum(len(change.value) + CHANGE_BYTES for change in outcome.changes)
        if self._unreported >= self._progress_every or self._unreported_bytes >= self._progress_bytes:
            self._unreported = self._unreported_bytes = 0
            told, self._told = self._told, outcome.revision
            for watchers in self._by_place.values():
                for watcher in watchers:
                    if watcher.reported < told:
                        self._report(watcher)

    def _report(self, watcher: Watcher) -> None:
        """Tell a live watcher that has heard nothing for long how far it has come."""
        if watcher.state == "live" and watcher.sink.ready:
            watcher.reported = self._store.revision
            watcher.sink.event(watcher.id, encode(WatchEvent(kind="progress", revision=watcher.reported)))

    def _end(self, watcher: Watcher, error: CosessionError) -> None:
        self._metrics.count("watch.ended")
        # Inside a snapshot there is no position yet; and `progress` may have promised more than was delivered.
        resume = 0 if watcher.state == "snapshot" else max(watcher.next_revision, watcher.reported + 1)
        data = {**error.data, "resume_revision": resume} if resume else error.data
        event = WatchEvent(
            kind="end", revision=watcher.next_revision - 1, code=error.code, message=error.message, data=data
        )
        self._forget(watcher)
        watcher.sink.event(watcher.id, encode(event))
        watcher.sink.ended(watcher.id)

    def _forget(self, watcher: Watcher) -> None:
        watcher.state = "ended"
        if watcher.snapshot is not None:
            self._store.snapshots.end(watcher.snapshot)
            watcher.snapshot = None
        place = self._by_place[watcher.space_project]
        place.remove(watcher)
        if not place:
            del self._by_place[watcher.space_project]
        mine = self._by_sink[watcher.sink]
        del mine[watcher.id]
        if not mine:
            del self._by_sink[watcher.sink]


def _page_after(after: int) -> Callable[[Engine], list[Committed]]:
    return lambda engine: engine.changes(after, CATCH_UP_ROWS, CATCH_UP_BYTES)
