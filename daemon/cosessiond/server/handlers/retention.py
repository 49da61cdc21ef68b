"""compact: what a user no longer wants kept.

Rule: local to this daemon, so no batch; the store's thread does the work in slices, like all trimming.
"""

from __future__ import annotations

from typing import Final

from cosession.errors import CosessionError, InvalidRequest
from cosession.messages import past
from cosessiond.backups.vault import Outcome
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row


def compact(core: Core, call: Call, request: past.Compact) -> None:
    """Raise the lower end of the log window; answered when everything below is gone, and there is a backup of it."""
    store = core.store
    revision = admission.revision(request.revision, "revision")
    if revision == 0:
        raise InvalidRequest("cannot compact up to revision 0: revisions begin at 1")
    if revision > store.revision:
        raise CosessionError(
            f"cannot compact up to revision {revision}: the store is at {store.revision}; ask for that or less",
            code="future_revision",
            data={"revision": store.revision},
        )
    before = store.compact_revision

    def done() -> None:
        now = store.compact_revision
        call.reply(past.CompactReply(revision=store.revision, compact_revision=now, dropped=now - before))

    if revision <= before:
        done()  # what changes nothing leaves no record: records crowd out records
        return
    caller = call.conversation.caller()

    def backed_up(outcome: Outcome | CosessionError) -> None:
        if isinstance(outcome, CosessionError) and outcome.code != "disk_full":  # this is what makes room
            call.fail(outcome)
            return
        core.journal.acted("compact", caller=caller, subject=str(revision))
        try:
            store.compact(revision, done)
        except CosessionError as error:
            call.fail(error)

    core.backups.before("compact", revision - 1, backed_up)


ROWS: Final = (Row(past.Compact, Access.WRITE, compact),)
