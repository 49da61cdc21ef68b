"""The verbs about what was: a time to a revision, putting back what stood, taking values out for good.

Rule: as in `verbs`: a method turns arguments into one request, calls, and returns the reply.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET

from cosession.exchange.verbs import expected
from cosession.messages.past import Purge, PurgeReply, Revert, RevertReply, RevisionAt

from .verbs import Verbs


class Past(Verbs):
    """`Verbs`, and those about the past."""

    async def revision_at(self, time: float | datetime, *, timeout_s: float | None = None) -> int:
        """The newest revision written at `time` or before it, to read at: seconds since the epoch or a datetime (a
        naive one is local time). Raises Compacted when the log window begins later.

        It goes by the daemon's wall clock; where that was set back, several revisions may fit and this is one.
        """
        seconds = time.timestamp() if isinstance(time, datetime) else time
        reply = await self.call(RevisionAt(time=seconds), timeout_s=timeout_s)
        return reply.at_revision

    async def revert(
        self,
        key: str = "",
        *,
        to_revision: int,
        prefix: str | None = None,
        expect_revision: int | None = None,
        dry_run: bool = False,
        session: str = "",
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> RevertReply:
        """Put back what `key`, or everything under `prefix`, was at `to_revision`, as one batch; the reply says what
        was `written` and how many were `unchanged`. What was absent then is deleted. Leases stay as they are now.

        With `dry_run` nothing is written. Nobody's later write is lost unseen: under constant writing it ends as
        Overloaded. Raises Compacted when what stood then is no longer kept or was purged, TooLarge when more than 128
        entries or 960 KiB would change at once, Conflict when `expect_revision` (of one entry) does not stand.
        """
        request = Revert(
            to_revision=to_revision,
            key=key,
            prefix=UNSET if prefix is None else prefix,
            expect_revision=expected(expect_revision),
            dry_run=dry_run,
            session=self._acting(session),
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        return await self.call(request, timeout_s=timeout_s)

    async def purge(
        self,
        key: str,
        *,
        before_revision: int = 0,
        session: str = "",
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> PurgeReply:
        """Delete the entry and take its values out of history, log and files for good; hashes and all else stay.

        With `before_revision` only versions below it go, and the entry stays when it is newer. The reply counts the
        values `purged` and names the `backups` that still hold one. It ends with writing the whole database anew: give
        a large one more `timeout_s`. What was interrupted is finished by purging again.
        """
        request = Purge(
            key=key,
            before_revision=before_revision,
            session=self._acting(session),
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        return await self.call(request, timeout_s=timeout_s)
