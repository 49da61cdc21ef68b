"""Where a watch stands, so that it goes on after a reconnect exactly behind what was delivered: no gap, no repeat.

A watch without `start_revision` begins with a snapshot. Interrupted inside it there is no position to resume from, and
buffering a whole snapshot could take 256 MiB: so the snapshot is taken again and a `Reset` stands before it in the
stream, as it does when the store began another epoch. Whoever keeps a copy drops it at a `Reset`; everything that is
there now follows. A watch with `start_revision`, and one that asked for no snapshot, gets the error instead.

Rule: pure; it is fed events and says what to ask for next.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from cosession.errors import CosessionError, Overloaded, error_from
from cosession.messages.watches import Watch, WatchEvent, WatchReply
from cosession.model import Change, Entry

#: How often in a row a snapshot may be begun without being finished.
SNAPSHOTS_MAX: Final = 8
#: Ends of a watch that a new one, from the position reached, continues.
_CONTINUED: Final = frozenset({"overloaded", "shutting_down"})


class Reset(Struct, frozen=True, kw_only=True):
    """What a watch delivered before no longer stands; all that is there now follows. Has the fields of a Change."""

    kind: Literal["reset"] = "reset"
    key: str = ""
    value: None = None
    version: int = 0
    create_revision: int = 0
    mod_revision: int
    session: str = ""
    time: float = 0.0


WatchItem = Change | Reset


class WatchCursor:
    """The position of one watch.

    Send `request()`, tell it the answer with `attached` or `refused`, feed every event; when `over` is set (or the
    connection is lost) do that again. `revision` is the position reached, to pass as `start_revision` - 1 with `epoch`
    later; `synced` says that the snapshot, if one was asked for, is complete.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._explicit = watch.start_revision > 0
        self._next = watch.start_revision
        self._snapshots = 0
        self._delivered = False
        self._reset_due = False
        self.epoch = watch.epoch
        self.revision = max(0, watch.start_revision - 1)
        self.synced = self._explicit
        self.over = False

    def request(self) -> Watch:
        """What to ask the daemon for now. Raises Overloaded when snapshots never come to their end."""
        start = self._next if self.synced else 0
        if not start:
            self._snapshots += 1
            if self._snapshots > SNAPSHOTS_MAX:
                raise Overloaded(
                    f"cannot watch {self._watch.prefix or self._watch.key!r}: {SNAPSHOTS_MAX} snapshots were begun and "
                    "none was finished; watch a narrower prefix"
                )
        return Watch(
            prefix=self._watch.prefix,
            key=self._watch.key,
            project=self._watch.project,
            space=self._watch.space,
            start_revision=start,
            epoch=self.epoch if start else "",
        )

    def attached(self, reply: WatchReply) -> None:
        """The daemon took the request; its events follow."""
        self.over = False
        self.epoch = reply.epoch or self.epoch
        self._reset_due = not self.synced and self._delivered

    def refused(self, error: CosessionError) -> None:
        """The daemon refused the request. Returns when another `request()` will do; else raises the error."""
        if self._explicit or not self.synced or error.code != "epoch_changed":
            raise error
        self._forget()

    def feed(self, event: WatchEvent) -> list[WatchItem]:
        """What the event delivers, in order. Raises the error of a watch that ended for good."""
        if event.kind == "changes":
            if event.revision < self._next:
                return []  # delivered before
            self._reach(event.revision)
            self._delivered = True
            return list(event.changes)
        if event.kind == "progress":
            self._reach(max(event.revision, self.revision))
        elif event.kind == "end":
            self._end(error_from(event.code, event.message, event.data))
        elif event.kind in ("snapshot", "snapshot_end"):
            return self._snapshot(event)
        return []

    def _snapshot(self, event: WatchEvent) -> list[WatchItem]:
        items: list[WatchItem] = []
        if self._reset_due:
            self._reset_due = False
            items.append(Reset(mod_revision=event.revision))
        items += [_as_change(entry) for entry in event.entries]
        self._delivered = self._delivered or bool(items)
        self.revision = event.revision
        if event.kind == "snapshot_end":
            self.synced = True
            self._delivered = True  # nothing there is something to know, too
            self._snapshots = 0
            self._reach(event.revision)
        return items

    def _reach(self, revision: int) -> None:
        self.revision = revision
        self._next = revision + 1

    def _end(self, error: CosessionError) -> None:
        if error.code == "epoch_changed" and not self._explicit:
            self._forget()
        elif error.code not in _CONTINUED:
            raise error
        self.over = True

    def _forget(self) -> None:
        self.synced = False
        self.epoch = ""


def _as_change(entry: Entry) -> Change:
    return Change(
        kind="put",
        key=entry.key,
        value=entry.value,
        version=entry.version,
        create_revision=entry.create_revision,
        mod_revision=entry.mod_revision,
        session=entry.session,
        time=entry.time,
    )
