# Made from cosession/aio/series.py by tests/client/unasync.py; change that one.
"""The reads that take several requests: a listing page by page, a history, what is made of histories.

Rule: one deadline over all of it. It is looked at before every request, so that nothing is sent for which no time is
left: a write sent at the last moment could only end in UnknownOutcome.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from cosession.differences import ABSENT
from cosession.errors import Compacted, TimedOut
from cosession.exchange.past import attributions, compared, differences, last_change, value_kept
from cosession.exchange.verbs import AuditListing, Listing
from cosession.messages.audit import Audit
from cosession.messages.past import History
from cosession.messages.store import Range
from cosession.model import Attribution, AuditRecord, Difference, Entry, Version

from .io import now
from .past import Past


class Series(Past):
    """`Verbs` and `Past`, and those that are made of several of them."""

    def range(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        at_revision: int = 0,
        keys_only: bool = False,
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> list[Entry]:
        """The entries whose key starts with `prefix`, in key order, all as they were at one revision.

        At most `limit` of them (None: all); with `keys_only` their values are None. Asks for pages of 1,000. Raises
        Compacted when `at_revision`, or three listings in a row, fell out of the log window.
        """
        first = Range(
            prefix=prefix, at_revision=at_revision, keys_only=keys_only, project=self._project(project), space=space
        )
        listing = Listing(first, limit)
        deadline = self._deadline(timeout_s)
        while not listing.done:
            try:
                listing.take(self.call(listing.request(), timeout_s=left_s(deadline)))
            except Compacted as error:
                listing.refused(error)
        return listing.entries

    def history(
        self,
        key: str,
        *,
        limit: int = 50,
        before_revision: int = 0,
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> list[Version]:
        """The kept versions of an entry, newest first, at most `limit` (50 are kept); only those below
        `before_revision` if given. Empty for an entry that never was, or was deleted below the log window.
        """
        found: list[Version] = []
        deadline = self._deadline(timeout_s)
        more = True
        while more and len(found) < limit:
            request = History(
                key=key,
                limit=limit - len(found),
                before_revision=found[-1].mod_revision if found else before_revision,
                project=self._project(project),
                space=space,
            )
            reply = self.call(request, timeout_s=left_s(deadline))
            found += reply.versions
            more = reply.more and bool(reply.versions)
        return found

    def audit(
        self,
        *,
        session: str = "",
        kind: str = "",
        project: str = "",
        since: float = 0.0,
        until: float = 0.0,
        after: int | None = None,
        before: int = 0,
        limit: int = 100,
        timeout_s: float | None = None,
    ) -> list[AuditRecord]:
        """Records of the audit that fit every filter given, newest first, at most `limit`.

        `session` is an id; `kind` one of verdict, denial, admin, mail, tool; `since` <= time < `until`, in seconds
        since the Unix epoch; `project` "" means every project. With `after` oldest first and above that id, with
        `before` below that one. Raises EpochChanged when the store began anew while it was read. See `follow_audit`
        for those to come.
        """
        first = Audit(
            session=session,
            kind=kind,
            project=project,
            since=since,
            until=until,
            after=UNSET if after is None else after,
            before=before,
        )
        listing = AuditListing(first, limit)
        deadline = self._deadline(timeout_s)
        while not listing.done:
            listing.take(self.call(listing.request(), timeout_s=left_s(deadline)))
        return listing.records

    def diff(
        self,
        a: str,
        b: str | None = None,
        *,
        at_revision: int = 0,
        to_revision: int = 0,
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> list[Difference]:
        """What changed from entry `a` to entry `b`, or from one version of `a` to another; empty when nothing did. All
        in order are a JSON patch (RFC 6902).

        The one side is `a` as it was `at_revision`, the other `b` (None: `a`) as it was `to_revision`; 0 is now.
        Without `b` and revisions it is what the last write of `a` changed. Where an entry was absent at a revision, all
        of the other side is one change. Raises CosessionError `not_found` when both are, or one that was not asked for
        at a revision; Compacted when a version is no longer kept.
        """
        deadline = self._deadline(timeout_s)
        place: dict[str, Any] = {"project": self._project(project), "space": space}
        if b is None and not at_revision and not to_revision:
            newest = self.history(a, limit=2, timeout_s=left_s(deadline), **place)
            sides = last_change(a, newest)
        else:
            old = self._value_at(a, at_revision, deadline, place)
            new = self._value_at(a if b is None else b, to_revision, deadline, place)
            sides = compared((a, at_revision, old), (a if b is None else b, to_revision, new))
        return differences(*sides)

    def blame(
        self,
        key: str,
        path: str = "",
        *,
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> list[Attribution]:
        """Who wrote each part of the value of an entry: for each leaf, the newest kept version that changed it.

        `path`: only what this JSON pointer (RFC 6901) points to. Raises CosessionError `not_found` when the entry or
        that part of it is absent.
        """
        return attributions(key, path, self.history(key, project=project, space=space, timeout_s=timeout_s))

    def _value_at(self, key: str, revision: int, deadline: float, place: dict[str, Any]) -> Any:
        """The value of an entry at a revision (0: now), ABSENT where there was none; from its history when the log
        window has passed it. Raises Compacted when that version is no longer kept either.
        """
        try:
            entry = self.get(key, at_revision=revision, timeout_s=left_s(deadline), **place)
        except Compacted as gone:
            kept = self.history(key, before_revision=revision + 1, limit=1, timeout_s=left_s(deadline), **place)
            return value_kept(kept, gone)
        return entry.value if entry else ABSENT

    def _deadline(self, timeout_s: float | None) -> float:
        return now() + (self._common.timeout_s if timeout_s is None else timeout_s)


def left_s(deadline: float) -> float:
    """Seconds until `deadline`; raises TimedOut when there are none."""
    left_s = deadline - now()
    if left_s <= 0:
        raise TimedOut("cannot go on: the time for all of it is over, nothing was sent since; give it more time")
    return left_s
