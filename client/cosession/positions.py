"""Where a watch stands, so that it goes on after a reconnect exactly behind what was delivered: no gap, no repeat.

A watch without `start_revision` begins with a snapshot. Interrupted inside it there is no position to resume from, and
buffering a whole snapshot could take 256 MiB: so the snapshot is taken again and a reset stands before it in the
stream, as it does when the store began another epoch. Whoever keeps a copy drops it at a reset; everything that is
there now follows. A watch with `start_revision`, and one that asked for no snapshot, gets the error instead.

Rule: one place for the library and for `cosession watch`, which does not load the library. So: standard library only
and light; pure; it is told kinds and revisions of events and never sees what they carry.
"""

from __future__ import annotations

from cosession.errors import CosessionError, Overloaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: How often in a row a snapshot may be begun without being finished.
SNAPSHOTS_MAX: Final = 8
#: How long a watch looks for a daemon that went away before it ends with Unreachable.
RECONNECT_S: Final = 60.0

#: What to do with what an event carries.
NOTHING: Final = "nothing"
DELIVER: Final = "deliver"
#: A reset first, since what was delivered before no longer stands; then deliver.
RESET: Final = "reset"

#: Ends of a watch that a new one, from the position reached, continues.
_CONTINUED: Final = frozenset({"overloaded", "shutting_down"})


class Position:
    """The position of one watch over what `what` names.

    Ask the daemon for what `begin()` returns, tell it the answer with `attached` or `refused`, every event with
    `reached` and its end with `ended`; when `over` is set (or the connection is lost) do that again. `revision` is the
    position reached, to pass as `start_revision` - 1 with `epoch` later; `synced` says that the snapshot, if one was
    asked for, is complete.
    """

    def __init__(self, what: str, start_revision: int, epoch: str) -> None:
        self._what = what
        self._explicit = start_revision > 0
        self._next = start_revision
        self._snapshots = 0
        self._delivered = False
        self._reset_due = False
        self.epoch = epoch
        self.revision = max(0, start_revision - 1)
        self.synced = self._explicit
        self.over = False

    def begin(self) -> tuple[int, str]:
        """What to ask the daemon for now: `start_revision` (0: a snapshot) and `epoch`.

        Raises Overloaded when snapshots never come to their end.
        """
        start = self._next if self.synced else 0
        if not start:
            self._snapshots += 1
            if self._snapshots > SNAPSHOTS_MAX:
                raise Overloaded(
                    f"cannot watch {self._what!r}: {SNAPSHOTS_MAX} snapshots were begun and "
                    "none was finished; watch a narrower prefix"
                )
        return start, self.epoch if start else ""

    def attached(self, epoch: str) -> None:
        """The daemon took the request; its events follow."""
        self.over = False
        self.epoch = epoch or self.epoch
        self._reset_due = not self.synced and self._delivered

    def refused(self, error: CosessionError) -> None:
        """The daemon refused the request. Returns when another `begin()` will do; else raises the error."""
        if self._explicit or not self.synced or error.code != "epoch_changed":
            raise error
        self._forget()

    def reached(self, kind: str, revision: int, *, holds: bool) -> str:
        """An event of `kind` came, with something in it (`holds`) or not: NOTHING, DELIVER or RESET."""
        if kind == "changes":
            if revision < self._next:
                return NOTHING  # delivered before
            self._reach(revision)
            self._delivered = True
            return DELIVER
        if kind == "progress":
            self._reach(max(revision, self.revision))
        elif kind in ("snapshot", "snapshot_end"):
            return self._snapshot(kind, revision, holds=holds)
        return NOTHING

    def ended(self, error: CosessionError) -> None:
        """The watch is over. Returns when another will do, then `over` is set; else raises the error."""
        if error.code == "epoch_changed" and not self._explicit:
            self._forget()
        elif error.code not in _CONTINUED:
            raise error
        self.over = True

    def _snapshot(self, kind: str, revision: int, *, holds: bool) -> str:
        resets, self._reset_due = self._reset_due, False
        self._delivered = self._delivered or holds or resets
        self.revision = revision
        if kind == "snapshot_end":
            self.synced = True
            self._delivered = True  # nothing there is something to know, too
            self._snapshots = 0
            self._reach(revision)
        return RESET if resets else DELIVER

    def _reach(self, revision: int) -> None:
        self.revision = revision
        self._next = revision + 1

    def _forget(self) -> None:
        self.synced = False
        self.epoch = ""
