"""purge: the values of an entry leave the store, its history, its log and its files.

First the entry is deleted, as by anybody and seen by its watches; then its versions and log rows lose their values, a
slice at a time between commits; then the whole database is written anew, which alone leaves no byte of them. Each of
the three may be done again, so an interrupted purge is repeated and never wrong. The audit has that it began before the
first value goes, and how it ended: one without an end was interrupted. Then a backup without those values is made, and
those that have them are dropped; when it could not be made they stay, and are named.
"""

from __future__ import annotations

from typing import Final

from cosession.errors import CosessionError, Overloaded
from cosession.messages import past
from cosession.messages.limits import DECIDE_ATTEMPTS_MAX, PURGES_MAX
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.handlers.writes import all_written
from cosessiond.server.table import Access, Row
from cosessiond.store.engine import (
    Committed,
    Compare,
    Conflicted,
    Delete,
    EntryCompare,
    EntryId,
    Outcome,
    Purged,
    Refused,
)

#: Versions that lose their value in one slice, each with its log row.
PURGE_ROWS: Final = 64


def purge(core: Core, call: Call, request: past.Purge) -> None:
    """Check, then begin; one at a time."""
    id = admission.writable(core, request.space, request.project, request.key)
    if admission.revision(request.before_revision, "before_revision") > core.store.revision + 1:
        raise CosessionError(
            f"cannot purge before revision {request.before_revision}: the store is at {core.store.revision}; "
            "leave it out for everything",
            code="future_revision",
            data={"revision": core.store.revision},
        )
    if core.purges >= PURGES_MAX:
        core.metrics.hit("purges")
        raise Overloaded("cannot purge: another purge is under way; try again when it is done")
    _Purge(core, call, request, id).begin()


class _Purge:
    """One purge, from its deletion to its answer."""

    def __init__(self, core: Core, call: Call, request: past.Purge, id: EntryId) -> None:
        self._core = core
        self._call = call
        self._request = request
        self._id = id
        self._caller = call.conversation.caller()  # who may be gone when it ends
        self._left = DECIDE_ATTEMPTS_MAX
        self._deletion: Committed | None = None
        self._before = request.before_revision
        self._values = 0
        self._is_told = False  # the audit has that it began

    def begin(self) -> None:
        """Delete the entry where it is not to stay."""
        self._delete()
        self._core.purges += 1
        self._core.backups.hold()

    def _delete(self) -> None:
        """Raises CosessionError."""
        core, request, before = self._core, self._request, self._request.before_revision
        origin = admission.origin(core, self._call, request)
        entry = core.store.get(self._id)
        if entry is not None and before and entry.mod_revision >= before:
            self._take_out(0)
            return
        # Without a bound whatever stands when the deletion lands is what shall go. Nothing may stand: then the request
        # id alone tells a repeat, which is about what was there when it was first sent, and not about a later life.
        stands = entry.mod_revision if entry is not None else 0
        guard: list[Compare] = [EntryCompare(self._id, "mod_revision", stands)] if before else []
        core.store.submit(core.store.batch(origin, guard, [Delete(self._id)]), self._deleted)
        self._call.conversation.hold()

    def _deleted(self, outcome: Outcome) -> None:
        self._call.conversation.release()
        if isinstance(outcome, Committed):
            self._deletion = outcome
            self._before = self._request.before_revision or outcome.revision + 1
            self._take_out(0)
        elif isinstance(outcome, Refused):
            self._fail(CosessionError(outcome.message, code=outcome.code))
        else:
            self._again(outcome)

    def _again(self, _: Conflicted) -> None:
        self._left -= 1
        if self._left <= 0:
            self._fail(Overloaded("cannot purge: others kept writing that entry; try again in a moment"))
            return
        try:
            self._delete()
        except CosessionError as error:
            self._fail(error)

    def _take_out(self, after: int) -> None:
        if not after:
            self._record("begun")  # goes before the first slice, which is behind it in the queue
        id, before = self._id, self._before
        self._core.store.run(
            lambda engine: engine.purge(id, before=before, after=after, rows_max=PURGE_ROWS),
            self._taken_out,
            has_place=True,
        )

    def _taken_out(self, done: Purged | CosessionError | None) -> None:
        if isinstance(done, CosessionError):
            self._fail(done)
        elif done is None:
            self._fail(_full())
        else:
            self._values += done.values
            if done.more:
                self._take_out(done.reached)
            else:
                self._erase()

    def _erase(self) -> None:
        size = self._core.store.database_bytes
        self._core.running = f"purge: the database of {size / 1e6:.0f} MB is written anew; writes wait, reads go on"
        self._core.store.run(lambda engine: engine.erase(), self._erased, has_place=True)

    def _erased(self, done: bool | CosessionError) -> None:  # noqa: FBT001  # a result, not an option
        self._core.running = ""
        if isinstance(done, CosessionError):
            self._fail(done)
        elif not done:
            self._fail(_full())
        else:
            self._core.store.snapshots.forget(self._id)
            self._core.backups.forget(self._id, self._before, self._forgotten)
            self._core.backups.release()

    def _forgotten(self, dropped: list[str], left: list[str]) -> None:
        """The store has nothing of it any more, and nor have the backups but for those `left`."""
        self._core.purges -= 1
        self._record("ok")
        written = all_written(self._deletion) if self._deletion else []
        self._call.reply(
            past.PurgeReply(
                revision=self._core.store.revision,
                written=written[0] if written else None,
                purged=self._values,
                backups=left,
                backups_dropped=dropped,
                repeated=self._deletion is not None and self._deletion.repeated,
            )
        )
        self._core.flush()

    def _fail(self, error: CosessionError) -> None:
        self._core.purges -= 1
        self._core.backups.release()
        self._record(error.code)
        self._call.fail(error)

    def _record(self, outcome: str) -> None:
        _, project, key = self._id
        self._is_told = self._core.journal.acted(
            "purge", caller=self._caller, outcome=outcome, project=project, subject=key, follows=self._is_told
        )


def _full() -> CosessionError:
    return CosessionError(
        "cannot purge: the disk is full, and what is left may still be read; free as much as the database takes, purge "
        "again",
        code="disk_full",
    )


ROWS: Final = (Row(past.Purge, Access.WRITE, purge),)
