"""A daemon with one seeded bug, to show that the judge of the kill loop catches it: `python sabotage.py NAME`.

Each function below patches the installed daemon in its own process, before it starts. `NAME = "none"` patches nothing,
which shows that it is the bug that is caught and not the way of starting.

Rule: a sabotage breaks exactly one promise, and leaves the daemon unaware of it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import structs

from cosession import paths
from cosessiond.__main__ import main as serve
from cosessiond.server.handlers import writes as handlers
from cosessiond.store import apply, commit, sqlite
from cosessiond.store.apply import Evaluated, evaluate
from cosessiond.store.engine import Applied, Batch, Committed, Entry, EntryCompare, Put, VersionRow
from cosessiond.store.expiry import Expiry
from cosessiond.store.revisions import Store
from cosessiond.store.wal import Wal
from cosessiond.store.watch import Watcher, WatchHub

#: How long a group that was acknowledged too early stays unwritten.
UNWRITTEN_S: Final = 0.01
#: https://www.sqlite.org/fileformat.html#the_write_ahead_log
WAL_HEADER_BYTES: Final = 32
#: How many publications a stale read is behind.
STALE_BY: Final = 8


def none() -> None:
    """No bug."""


def acknowledge_before_commit() -> None:
    """P1: publish and answer, then make it durable."""
    write = sqlite.SqliteEngine._write
    later: list[Callable[[], None]] = []

    def put_off(self: sqlite.SqliteEngine, *arguments: Any) -> None:
        later.append(lambda: write(self, *arguments))

    def commit_late(self: commit.Worker, share: float) -> None:
        committed(self, share)
        time.sleep(UNWRITTEN_S)
        while later:
            later.pop(0)()

    committed = commit.Worker._commit
    sqlite.SqliteEngine._write = put_off  # type: ignore[method-assign, assignment]
    commit.Worker._commit = commit_late  # type: ignore[method-assign]


def drop_tail() -> None:
    """P14: at every start one bit in the second half of the WAL is flipped, and SQLite silently drops all behind it."""
    wal = Path(paths.state_directory()) / "store.db-wal"
    size = Wal(wal).bytes()
    if size > WAL_HEADER_BYTES:
        with wal.open("r+b") as file:
            file.seek(size // 2)
            (byte,) = file.read(1)
            file.seek(size // 2)
            file.write(bytes([byte ^ 1]))


def watch_gap() -> None:
    """P5: a watcher that has fallen behind, or comes back, is live at once and never sees what it missed."""

    def settle(self: WatchHub, watcher: Watcher) -> None:
        if watcher.state != "ended":
            watcher.next_revision = self._store.revision + 1
            watcher.state = "live"

    WatchHub._settle = settle  # type: ignore[method-assign]


def watch_again() -> None:
    """P5: a watcher that comes back sees the batch again that it saw last."""
    opened = WatchHub.open

    def open_earlier(self: WatchHub, watcher: Watcher, start_revision: int) -> None:
        opened(self, watcher, start_revision - 1 if start_revision > 1 else start_revision)

    WatchHub.open = open_earlier  # type: ignore[method-assign]


def blind_compare() -> None:
    """P3: what a put expects is not compared."""

    def expect_nothing(*_: object) -> list[EntryCompare]:
        return []

    handlers._expected = expect_nothing  # type: ignore[assignment]


def stale_read() -> None:
    """P3: a read shows an entry as it was a moment ago."""
    behind: list[dict[Any, Any]] = [{}]
    publish_one = Store._publish_one
    get = Store.get

    def remember(self: Store, outcome: Any) -> None:
        behind.append({change.id: get(self, change.id) for change in outcome.changes})
        del behind[:-STALE_BY]
        publish_one(self, outcome)

    def get_old(self: Store, id: Any) -> Any:
        return next((old[id] for old in behind if id in old), get(self, id))

    Store._publish_one = remember  # type: ignore[method-assign]
    Store.get = get_old  # type: ignore[method-assign]


def future_read() -> None:
    """P3: a read shows a put that is still on its way to the disk, with the revision that it will get by the looks."""
    waiting: dict[Any, Entry] = {}
    submit = Store.submit
    get = Store.get

    def remember(self: Store, batch: Batch, done: Any) -> None:
        for write in batch.then:
            if isinstance(write, Put):
                revision = self.revision + 1
                waiting[write.id] = Entry(write.id, write.value, 1, revision, revision, batch.time_ms, "", 0, "", b"")

        def ended(outcome: Any) -> None:
            for write in batch.then:
                waiting.pop(write.id, None)
            done(outcome)

        submit(self, batch, ended)

    def get_early(self: Store, id: Any) -> Any:
        return waiting.get(id) or get(self, id)

    Store.submit = remember  # type: ignore[method-assign]
    Store.get = get_early  # type: ignore[method-assign]


def early_expiry() -> None:
    """P8: a lease ends at two thirds of its time."""
    arm = Expiry._arm

    def arm_early(self: Expiry, id: Any, revision: int, delay_s: float) -> None:
        arm(self, id, revision, delay_s * 2 / 3)

    Expiry._arm = arm_early  # type: ignore[method-assign]


def torn_batch() -> None:
    """P4: of a batch with several changes the last one is not made."""

    def evaluate_less(*arguments: Any) -> Any:
        found = evaluate(*arguments)
        if isinstance(found, Evaluated) and len(found.outcome.changes) > 1:
            o = found.outcome
            return Evaluated(
                Committed(o.revision, o.succeeded, o.time_ms, o.origin, o.changes[:-1]), found.entries[:-1]
            )
        return found

    sqlite.evaluate = evaluate_less  # type: ignore[attr-defined, assignment]


def forget_requests() -> None:
    """P2: a request id that comes again is taken for a new one."""

    def kept(self: sqlite.SqliteEngine, request_id: str, *_: object) -> None:
        self._db.execute("DELETE FROM requests WHERE request_id = ?", (request_id,))

    sqlite.SqliteEngine._kept = kept  # type: ignore[method-assign, assignment]


def commit_backwards() -> None:
    """P3: what has queued up is committed the last one first."""
    commit_group = commit.Worker._commit

    def commit_reversed(self: commit.Worker, share: float) -> None:
        self._tickets.reverse()
        commit_group(self, share)

    commit.Worker._commit = commit_reversed  # type: ignore[method-assign]


def conflict_without_cause() -> None:
    """P2: a put is refused although the entry is as it expected."""
    first_failing = apply._first_failing

    def fail(batch: Batch, view: apply.View) -> Any:
        found = first_failing(batch, view)
        compare = batch.compares[0] if batch.compares else None
        if found is None and batch.origin.operation == "put" and isinstance(compare, EntryCompare):
            return 0, view.get(compare.id)
        return found

    apply._first_failing = fail


def another_version_answered() -> None:
    """P2: an acknowledgement tells of the version after the one written."""
    one_written = handlers._one_written

    def one_ahead(change: Applied, outcome: Committed) -> Any:
        written = one_written(change, outcome)
        return structs.replace(written, version=written.version + 1)

    handlers._one_written = one_ahead


def version_left_out() -> None:
    """P6: a history lacks the version before the newest."""
    history = sqlite.SqliteEngine.history

    def shorter(self: sqlite.SqliteEngine, *arguments: Any) -> list[VersionRow]:
        found = history(self, *arguments)
        return found[:1] + found[2:]

    sqlite.SqliteEngine.history = shorter  # type: ignore[method-assign]


def past_retold() -> None:
    """P5: a watch that catches up is told other times than one that was there."""
    changes = sqlite.SqliteEngine.changes

    def retell(self: sqlite.SqliteEngine, *arguments: Any) -> list[Committed]:
        return [structs.replace(each, time_ms=each.time_ms + 1) for each in changes(self, *arguments)]

    sqlite.SqliteEngine.changes = retell  # type: ignore[method-assign]


#: By name; what the judge must say stands in test_killloop.py.
SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    each.__name__: each
    for each in (
        none,
        acknowledge_before_commit,
        drop_tail,
        watch_gap,
        watch_again,
        blind_compare,
        stale_read,
        future_read,
        early_expiry,
        torn_batch,
        forget_requests,
        commit_backwards,
        conflict_without_cause,
        another_version_answered,
        version_left_out,
        past_retold,
    )
}


if __name__ == "__main__":
    os.umask(0o077)
    SABOTAGES[sys.argv[1]]()
    sys.exit(serve([]))
