# Made from cosession/aio/series.py by tests/client/unasync.py; change that one.
"""The verbs that take several requests: a listing page by page, a history, a read and the write that rests on it.

Rule: one deadline over all of it. It is looked at before every request, so that nothing is sent for which no time is
left: a write sent at the last moment could only end in UnknownOutcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cosession.errors import Compacted, Conflict, TimedOut
from cosession.exchange.verbs import Listing, update_waits
from cosession.messages.past import History
from cosession.messages.store import Range
from cosession.model import Entry, Version

from .io import now, pause
from .verbs import Verbs


class Series(Verbs):
    """`Verbs`, and those that are made of several of them."""

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
                listing.take(self.call(listing.request(), timeout_s=_left_s(deadline)))
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
        """The kept versions of an entry, newest first, at most `limit`; only those below `before_revision` if given."""
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
            reply = self.call(request, timeout_s=_left_s(deadline))
            found += reply.versions
            more = reply.more and bool(reply.versions)
        return found

    def update(
        self,
        key: str,
        fn: Callable[[Any], Any],
        *,
        ttl_s: float = 0.0,
        ephemeral: bool = False,
        session: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry:
        """Read, apply `fn` to the value (None when absent), write if nobody wrote in between; else again.

        The first retry comes at once, from the entry that the conflict brought, three more after random waits of up
        to 0.1, 0.2 and 0.4 s; then, or when the time is too short for another try, Conflict is raised. `fn` may run
        several times and must not call this client; the time it takes counts. As with `put`, an entry updated without
        `ttl_s` or `ephemeral` loses its lease.
        """
        deadline = self._deadline(timeout_s)
        entry = self.get(key, project=project, space=space, timeout_s=_left_s(deadline))
        waits = update_waits(self._common.jitter)
        while True:
            value = fn(entry.value if entry else None)
            try:
                return self.put(
                    key,
                    value,
                    expect_revision=entry.mod_revision if entry else 0,
                    ttl_s=ttl_s,
                    ephemeral=ephemeral,
                    session=session,
                    project=project,
                    space=space,
                    timeout_s=_left_s(deadline),
                )
            except Conflict as conflict:
                wait_s = next(waits, None)
                if wait_s is None or now() + wait_s >= deadline:
                    raise
                entry = conflict.current
            if wait_s:
                pause(wait_s)
                entry = self.get(key, project=project, space=space, timeout_s=_left_s(deadline))

    def _deadline(self, timeout_s: float | None) -> float:
        return now() + (self._common.timeout_s if timeout_s is None else timeout_s)


def _left_s(deadline: float) -> float:
    """Seconds until `deadline`; raises TimedOut when there are none."""
    left_s = deadline - now()
    if left_s <= 0:
        raise TimedOut("cannot go on: the time for all of it is over, nothing was sent since; give it more time")
    return left_s
