"""One backup in the making: copied in steps on the store's thread, then proved and published beside it.

    copying -> proving -> over
       |          |
       +----------+--> given up

Rule: it never waits and never hurries: the next step is queued when the last is done, behind whatever was queued
meanwhile, so that a commit waits for one step at most.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from cosession.errors import CosessionError, Overloaded
from cosessiond.backups.rotation import Keep
from cosessiond.backups.vault import Copied, Outcome, Vault
from cosessiond.store.backup import Reason
from cosessiond.store.engine import Copy, CopyFailed, Engine, Position, Stepped
from cosessiond.store.leases import Deadlines
from cosessiond.store.revisions import Store

PAGE_BYTES: Final = 4096
#: How soon a step is tried again while what was copied is being synced, and while too many wait for the store's thread.
SYNCING_S: Final = 0.002
CROWDED_S: Final = 0.05

Phase = Literal["copying", "proving", "over"]


class Making:
    """The work on one backup; `ended` is told once what came of it."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        deadlines: Deadlines,
        *,
        reason: Reason,
        time_ms: int,
        kept: Keep,
        ended: Callable[[Outcome | CosessionError], None],
    ) -> None:
        self.reason: Final = reason
        self.phase: Phase = "copying"
        self.done_bytes = self.total_bytes = 0
        self.revision = 0  # of the copy, once it is whole
        self._store = store
        self._vault = vault
        self._deadlines = deadlines
        self._time_ms = time_ms
        self._kept = kept
        self._ended = ended
        self._partial = ""
        self._copy: Copy | None = None
        self._given_up: CosessionError | None = None

    def begin(self) -> None:
        """Look for room, then copy. Raises CosessionError, and nothing was begun."""
        self._vault.demand_room()
        self._partial, path, descriptor = self._vault.begin(self._store.revision, self._time_ms, self.reason)
        self._queue(lambda engine: _opened(engine, path, descriptor), self._opened)

    def give_up(self, error: CosessionError) -> None:
        """End it with this error, unless it is being proved: then it goes on."""
        if self.phase == "copying":
            self._given_up = error

    def _queue(self, run: Callable[[Engine], Any], done: Callable[[Any], None]) -> None:
        try:
            self._store.run(run, done)
        except Overloaded:
            self._deadlines.after("backup step", CROWDED_S, lambda: self._queue(run, done))

    def _opened(self, copy: Copy | CosessionError | None) -> None:
        if isinstance(copy, CosessionError):
            self._end(copy)
        elif copy is None:
            self._end(CosessionError("cannot back up: this store is kept in memory alone", code="not_allowed"))
        else:
            self._copy = copy
            self._step()

    def _step(self) -> None:
        assert self._copy is not None, "opened"
        copy, given_up = self._copy, self._given_up
        if given_up is not None:
            self._queue(lambda _: copy.abandon(), lambda ended: self._abandoned(ended, given_up))
        else:
            self._queue(lambda engine: _stepped(engine, copy), self._stepped)

    def _abandoned(self, ended: object, error: CosessionError) -> None:
        if ended is False:
            self._deadlines.after("backup step", SYNCING_S, self._step)
        else:
            self._end(error)

    def _stepped(self, result: tuple[Stepped, Position] | CopyFailed | CosessionError) -> None:
        assert self._copy is not None, "opened"
        if isinstance(result, CopyFailed):
            code = "disk_full" if result.is_full else "io_error"
            self._end(CosessionError(f"{result}; free space, or see to the disk", code=code))
            return
        if isinstance(result, CosessionError):
            self._end(result)
            return
        stepped, position = result
        self.total_bytes = self._copy.pages * PAGE_BYTES
        self.done_bytes = self.total_bytes - self._copy.pages_left * PAGE_BYTES
        if stepped == "whole":
            self._prove(position)
        elif stepped == "syncing":
            self._deadlines.after("backup step", SYNCING_S, self._step)
        else:
            self._step()

    def _prove(self, position: Position) -> None:
        """What was committed up to the last step was published before this is told, and nothing that came later."""
        assert self._copy is not None, "opened"
        assert position.revision == self._store.revision, "told in the order in which it happened"
        self.phase, self.revision, self.done_bytes = "proving", position.revision, 0
        entries = len(self._store.index)
        copied = Copied(self._copy, self._partial, position, entries, self._time_ms, self.reason)
        self._vault.publish(copied, self._kept, self._tell, self._published)

    def _tell(self, done: int, total: int) -> None:
        """From the thread that proves; two numbers, for people."""
        self.done_bytes, self.total_bytes = done, total

    def _published(self, outcome: Outcome | CosessionError) -> None:
        self.phase = "over"
        self._ended(outcome)

    def _end(self, error: CosessionError) -> None:
        self.phase = "over"
        self._vault.discard(self._partial)
        self._ended(error)


def _opened(engine: Engine, path: Path, descriptor: int) -> Copy | None:
    return engine.copy_to(path, descriptor)


def _stepped(engine: Engine, copy: Copy) -> tuple[Stepped, Position] | CopyFailed:
    try:
        return copy.step(), engine.position()
    except CopyFailed as error:
        return error
