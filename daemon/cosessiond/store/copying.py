"""Copying the database while it is in use, a few dozen pages at a time, by the connection that commits.

SQLite's backup does it: between two steps the connection may commit, and what it writes to pages that were copied
already is written to the copy as well, in that commit. So the copy is never begun anew, and in the end is the store as
it stands at the last step. Python offers the steps only from inside one call, `Connection.backup`, so that call is made
on a second thread, which is held whenever it is not its turn: `step` lets it do one step while the store's thread
waits. In its own time, while the store's thread goes on, it only syncs what it has written, so that the last sync is
short and nobody else's sync has to wait for a gigabyte.

Rule: of the two threads one runs in SQLite at any time, and never inside a transaction: SQLite would refuse to copy
then (SQLITE_BUSY, `sqlite3_backup_step`), and it is a bug that ends the copy.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from cosessiond.process.durable import sync
from cosessiond.store import schema
from cosessiond.store.engine import CopyFailed, Stepped

#: 256 KiB; measured over 1 GiB: 0.4 ms of the processor at the median, 1.5 ms at most. With 1 MiB it was 1.7 and 4.9,
#: of which a busy machine makes ten times as much for who waits, and the copy took no less time.
PAGES: Final = 64
#: Steps after which what they wrote is synced.
SYNC_STEPS: Final = 32


def pages_of(source: sqlite3.Connection) -> int:
    """How many pages a copy would have."""
    return int(source.execute("PRAGMA page_count").fetchone()[0])


class _Abandoned(Exception):
    """Thrown into the copying thread to end it."""


class Copying:
    """The `Copy` of `source` into the empty file at `path`, open as `descriptor`, which becomes this one's to close.

    `sync_steps`: what is copied is synced every so many steps, 0: in the end.
    """

    def __init__(
        self,
        source: sqlite3.Connection,
        path: Path,
        descriptor: int,
        *,
        pages: int = PAGES,
        sync_steps: int = SYNC_STEPS,
    ) -> None:
        self.pages = self.pages_left = pages_of(source)
        self._source = source
        self._path = path
        self._descriptor = descriptor
        self._step_pages = pages
        self._sync_steps = sync_steps
        self._go = threading.Semaphore(0)
        self._held = threading.Semaphore(0)
        self._is_syncing = False
        self._is_abandoned = False
        self._is_whole = False
        self._error: BaseException | None = None
        self._steps = 0
        self._thread: threading.Thread | None = None

    def step(self) -> Stepped:
        """One step, on the thread that owns `source`; raises CopyFailed."""
        assert not self._source.in_transaction, "a copy of what is not committed"
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="copy", daemon=True)
            self._thread.start()
        elif self._is_syncing:
            return "syncing"
        self._go.release()
        self._held.acquire()
        if self._error is not None:
            raise _failed(self._error)
        return "whole" if self._is_whole else "more"

    def abandon(self) -> bool:
        """End it unfinished, on the thread that owns `source`; whether it has ended. It has not while what was copied
        is being synced: nobody who commits shall wait for that, least of all on a disk that does not answer.
        """
        if self._is_abandoned or self._is_whole or self._error is not None:
            return True
        if self._is_syncing:
            return False
        self._is_abandoned = True
        if self._thread is None:
            os.close(self._descriptor)
        else:
            self._go.release()
            self._held.acquire()
            self._thread.join()
        return True

    def finish(self) -> None:
        """The rest, once it is whole, on any thread: one whole file, without a WAL, synced. Raises CopyFailed."""
        assert self._is_whole, "copied to its end"
        assert self._thread is not None, "it was begun"
        self._thread.join()
        if self._error is not None:
            raise _failed(self._error)

    def _run(self) -> None:
        try:
            self._go.acquire()
            if not self._is_abandoned:
                self._copy()
        except _Abandoned:
            pass
        except (sqlite3.Error, OSError, AssertionError) as error:
            self._error = error
        finally:
            self._held.release()  # also after the last step: nobody waits for what comes behind it
            self._close()

    def _copy(self) -> None:
        target = schema.open_target(self._path)
        try:
            if not os.path.samestat(os.lstat(self._path), os.fstat(self._descriptor)):
                raise OSError(f"another file has taken the place of {self._path}")
            self._source.backup(target, pages=self._step_pages, progress=self._stepped, sleep=0)
        finally:
            target.close()
        self._is_whole = True

    def _stepped(self, status: int, left: int, pages: int) -> None:
        """SQLite has done a step; `status` is what it came to."""
        self.pages, self.pages_left = pages, left
        assert status not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED), "a step inside a transaction"
        if status != sqlite3.SQLITE_OK:
            return  # the last one, or an error that comes as an exception
        self._steps += 1
        self._is_syncing = bool(self._sync_steps) and self._steps % self._sync_steps == 0
        self._held.release()
        failed = self._sync() if self._is_syncing else None
        self._go.acquire()
        if failed is not None:
            raise failed  # now, since it ends what SQLite does here
        if self._is_abandoned:
            raise _Abandoned

    def _sync(self) -> OSError | None:
        try:
            sync(self._descriptor)
        except OSError as error:
            return error
        finally:
            self._is_syncing = False
        return None

    def _close(self) -> None:
        try:
            if self._is_whole:
                schema.make_plain(self._descriptor)
                sync(self._descriptor)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._descriptor)


def _failed(error: BaseException) -> CopyFailed:
    is_full = (
        error.errno in (errno.ENOSPC, errno.EDQUOT)
        if isinstance(error, OSError)
        else getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    )
    return CopyFailed(f"cannot copy the store: {error}", is_full=is_full)
