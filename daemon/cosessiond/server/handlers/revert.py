"""revert: what stood at an earlier revision is put back, one entry or all under a prefix, as one batch.

What stood then is read in slices, and compared with memory as it comes. The batch carries a compare for every entry
that was looked at, also for those it does not write, and for a prefix that nothing under it is newer: so neither a
write nor a deletion that lands in between is overruled unseen. When one fails, all is decided again.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Struct

from cosession import model
from cosession.errors import Compacted, CosessionError, InvalidRequest, Overloaded, TooLarge
from cosession.messages import past
from cosession.messages.limits import (
    BATCH_BYTES_MAX,
    BATCH_WRITES_MAX,
    DECIDE_ATTEMPTS_MAX,
    REVERT_ENTRIES_MAX,
    VERSIONS_KEPT,
)
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.handlers.writes import all_written
from cosessiond.server.proposing import ask_for_repeat
from cosessiond.server.table import Access, Row
from cosessiond.store.engine import (
    BelowWindow,
    Committed,
    Compare,
    Conflicted,
    Delete,
    Engine,
    EntryCompare,
    EntryId,
    Outcome,
    Page,
    Put,
    RangeCompare,
    Refused,
    ValuePurged,
    Write,
)
from cosessiond.store.hash import is_trace
from cosessiond.store.public import public_entry
from cosessiond.store.revisions import conflict_of

#: Entries of the past that one slice reads: values of 256 KiB each are still few.
LOOK_ROWS: Final = 64


class _NotKept(Struct, frozen=True):
    """What stood then cannot be told any more; `oldest` is the oldest version that is kept, 0: none."""

    oldest: int


def revert(core: Core, call: Call, request: past.Revert) -> None:
    """Check what can be wrong with the request, then look and decide."""
    if (request.prefix is UNSET) == (not request.key):
        raise InvalidRequest("cannot revert: name either a key or a prefix; the empty prefix is everything")
    if request.prefix is UNSET:
        admission.writable(core, request.space, request.project, request.key)
    else:
        admission.check_place(core, request.space, request.project, str(request.prefix))
        admission.writable(core, request.space, request.project, "any")
        if request.expect_revision is not UNSET:
            raise InvalidRequest("cannot expect a revision of a prefix: it is of one entry; leave it out")
    if not request.to_revision:
        raise InvalidRequest("cannot revert to revision 0: nothing stood there; revisions begin at 1")
    admission.past_revision(core, request.to_revision, "to_revision")
    _Revert(core, call, request).begin()


class _Revert:
    """One revert, through its attempts. No other call of its connection is taken meanwhile."""

    def __init__(self, core: Core, call: Call, request: past.Revert) -> None:
        self._core = core
        self._call = call
        self._request = request
        self._place = (request.space, request.project)
        self._left = DECIDE_ATTEMPTS_MAX
        self._forget()

    def _forget(self) -> None:
        self._guards: list[Compare] = []
        self._writes: list[Write] = []
        self._seen: set[str] = set()
        self._changed = 0
        self._bytes = 0

    def begin(self) -> None:
        """A repeat of what was committed is not decided again: others may have written since."""
        if self._request.request_id and not self._request.dry_run:
            ask_for_repeat(self._core, self._request, self._asked)
            self._call.conversation.hold()
        else:
            self._call.conversation.hold()
            self._attempt()

    def _asked(self, outcome: Outcome) -> None:
        if isinstance(outcome, Conflicted):
            self._attempt()
        else:
            self._settle(outcome)

    def _attempt(self) -> None:
        self._left -= 1
        self._forget()
        if self._left < 0:
            self._core.metrics.hit("decide_attempts")
            self._refuse(Overloaded("cannot revert: others kept writing meanwhile; try again in a moment"))
            return
        self._look("")

    def _look(self, after: str) -> None:
        request, revision, place = self._request, self._request.to_revision, self._place
        try:
            if request.prefix is UNSET:
                id = (*place, request.key)
                self._core.store.run(lambda engine: _stood(engine, id, revision), self._one)
            else:
                prefix = str(request.prefix)
                self._core.store.run(
                    lambda engine: engine.range_at(
                        *place, prefix=prefix, after=after, limit=LOOK_ROWS, revision=revision
                    ),
                    self._page,
                )
        except CosessionError as error:
            self._refuse(error)

    def _one(self, stood: bytes | _NotKept | CosessionError | None) -> None:
        if isinstance(stood, CosessionError):
            self._refuse(stood)
        elif isinstance(stood, _NotKept):
            why = f"cannot tell what {self._request.key!r} was at revision {self._request.to_revision}: "
            why += (
                f"the oldest version that is kept is of revision {stood.oldest}; revert to one of those, see `history`"
                if stood.oldest
                else "no version of it is kept; put what it shall be"
            )
            self._refuse(
                Compacted(
                    why,
                    data={"compact_revision": self._core.store.compact_revision, "oldest_revision": stood.oldest},
                )
            )
        else:
            self._compare(self._request.key, stood)
            self._decide()

    def _page(self, page: Page | CosessionError) -> None:
        if isinstance(page, CosessionError):
            self._refuse(page)
            return
        for entry in page.entries:
            self._compare(entry.id[2], entry.value)
        if page.more and len(self._seen) <= REVERT_ENTRIES_MAX:
            self._look(page.reached)
            return
        for now in self._core.store.scan(*self._place, str(self._request.prefix)):
            if len(self._seen) > REVERT_ENTRIES_MAX:
                break
            if now.id[2] not in self._seen:
                self._compare(now.id[2], None)
        if len(self._seen) > REVERT_ENTRIES_MAX:
            self._refuse(
                TooLarge(
                    f"cannot revert {self._request.prefix!r}: over {REVERT_ENTRIES_MAX} entries to look at; "
                    "use longer prefixes, one after the other",
                    data={"limit": REVERT_ENTRIES_MAX},
                )
            )
            return
        self._guards.append(RangeCompare(*self._place, str(self._request.prefix), self._core.store.revision))
        self._decide()

    def _compare(self, key: str, stood: bytes | None) -> None:
        """What stood at the revision (None: nothing) beside what stands now."""
        id: EntryId = (*self._place, key)
        now = self._core.store.get(id)
        self._seen.add(key)
        self._guards.append(EntryCompare(id, "mod_revision", now.mod_revision if now else 0))
        if stood is None:
            write: Write | None = Delete(id) if now else None
        elif now is None:
            write = Put(id, stood)
        else:
            write = Put(id, stood, now.ttl_ms, now.owner) if now.value != stood else None
        if write is not None:
            self._changed += 1
            self._bytes += len(stood or b"")
            if self._changed <= BATCH_WRITES_MAX and self._bytes <= BATCH_BYTES_MAX:
                self._writes.append(write)

    def _decide(self) -> None:
        core, request = self._core, self._request
        if len(self._writes) < self._changed:
            self._refuse(
                TooLarge(
                    f"cannot revert: {self._changed} entries with {self._bytes} bytes would change at once, the limit "
                    f"is {BATCH_WRITES_MAX} with {BATCH_BYTES_MAX}; use longer prefixes, one after the other",
                    data={"size": self._changed, "limit": BATCH_WRITES_MAX},
                )
            )
            return
        expected: list[Compare] = []
        if isinstance(request.expect_revision, int):
            expected = [EntryCompare((*self._place, request.key), "mod_revision", request.expect_revision)]
        try:
            origin = admission.origin(core, self._call, request)
            commits = not request.dry_run and bool(self._writes or expected)
            if not commits and not self._still_stands():
                self._attempt()  # where nothing is committed no guard would notice
            elif request.dry_run and expected and expected[0] != self._guards[0]:
                entry = core.store.get((*self._place, request.key))
                self._refuse(_conflict(Conflicted(core.store.revision, 0, entry)))
            elif not commits:
                self._reply([_planned(write) for write in self._writes])
            else:
                batch = core.store.batch(origin, [*expected, *self._guards], self._writes)
                core.store.submit(batch, self._settle)
        except CosessionError as error:
            self._refuse(error)

    def _still_stands(self) -> bool:
        """Whether all that was looked at, slice after slice, is what stands now."""
        entries = (guard for guard in self._guards if isinstance(guard, EntryCompare))
        found = ((guard, self._core.store.get(guard.id)) for guard in entries)
        return all(guard.value == (now.mod_revision if now else 0) for guard, now in found)

    def _settle(self, outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            self._fail(CosessionError(outcome.message, code=outcome.code))
        elif not isinstance(outcome, Conflicted):
            self._call.conversation.release()
            self._call.reply(self._answer(outcome))
        elif self._request.expect_revision is not UNSET and outcome.compare == 0:
            self._fail(_conflict(outcome))
        else:
            self._attempt()

    def _answer(self, outcome: Committed) -> past.RevertReply:
        return past.RevertReply(
            revision=self._core.store.revision,
            to_revision=self._request.to_revision,
            written=all_written(outcome),
            unchanged=0 if outcome.repeated else len(self._seen) - self._changed,
            repeated=outcome.repeated,
        )

    def _reply(self, planned: list[model.Written]) -> None:
        self._call.conversation.release()
        self._call.reply(
            past.RevertReply(
                revision=self._core.store.revision,
                to_revision=self._request.to_revision,
                written=planned,
                unchanged=len(self._seen) - self._changed,
            )
        )

    def _refuse(self, error: CosessionError) -> None:
        """For what the daemon found out; meanwhile an earlier attempt of the same request may have been committed."""

        def settle(outcome: Outcome) -> None:
            if isinstance(outcome, Conflicted):
                self._fail(error)
            else:
                self._settle(outcome)

        if not self._request.request_id or self._request.dry_run:
            self._fail(error)
            return
        try:
            ask_for_repeat(self._core, self._request, settle)
        except CosessionError as why:  # the request id is none, or the queue is full
            self._fail(why)

    def _fail(self, error: CosessionError) -> None:
        self._call.conversation.release()
        self._call.fail(error)


def _conflict(outcome: Conflicted) -> CosessionError:
    return conflict_of(outcome, lambda entry: public_entry(entry) if entry else None)


def _stood(engine: Engine, id: EntryId, revision: int) -> bytes | _NotKept | None:
    """The value of one entry at a revision, None when it was absent; below the log window from its kept versions.

    Those are its newest ones without a gap: the newest at or below the revision is the one that stood. Where all are
    newer nothing is proved: older ones were dropped, or there was an earlier life that ended and went whole.
    """
    try:
        entry = engine.entry_at(id, revision)
    except BelowWindow:
        stood = engine.history(id, 1, revision + 1)
        if not stood:
            oldest = 0
            while page := engine.history(id, VERSIONS_KEPT, oldest):
                oldest = page[-1].mod_revision
            return _NotKept(oldest)
        if is_trace(stood[0].value):
            raise ValuePurged(id, stood[0].mod_revision) from None
        return stood[0].value if stood[0].kind == "put" else None
    return entry.value if entry else None


def _planned(write: Write) -> model.Written:
    kind: model.ChangeKind = "delete" if isinstance(write, Delete) else "put"
    return model.Written(kind=kind, key=write.id[2], version=0, create_revision=0, mod_revision=0)


ROWS: Final = (Row(past.Revert, Access.WRITE, revert),)
