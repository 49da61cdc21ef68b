"""The verbs of a client: one method per operation of the store and the daemon, named as in DESIGN 11.

Every method takes `timeout_s`, the seconds it may take in all, reconnecting included (None: as the client was made);
those on entries take `project` (None: the client's) and `space`. All raise TimedOut or Unreachable when no answer can
be had; a write that was sent and got none raises UnknownOutcome, whose `data["request_id"]` makes repeating it safe.

Rule: a method turns arguments into one request, calls, and turns the reply into a result; no I/O, no policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cosession.errors import Compacted, Conflict
from cosession.exchange.verbs import (
    Listing,
    Part,
    encoded,
    entry_of,
    entry_put,
    expected,
    merge_of,
    txn_of,
    update_waits,
)
from cosession.messages import Request
from cosession.messages.admin import Ping, PingReply, Status, StatusReply
from cosession.messages.base import R
from cosession.messages.sessions import Explain, ExplainReply, List
from cosession.messages.store import Delete, Get, History, Put, Range, TxnReply
from cosession.model import Entry, Session, Version, Written

from .io import pause
from .linking import Common


class Verbs:
    """What a client can be asked. `call` is the whole of it; the rest is convenience."""

    _common: Common

    async def call(self, request: Request[R], *, timeout_s: float | None = None) -> R:
        """Send any request of `cosession.messages` and return its typed reply."""
        raise NotImplementedError

    async def get(
        self,
        key: str,
        *,
        at_revision: int = 0,
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry | None:
        """The entry, None when absent; as it was `at_revision` when that is given. Raises Compacted."""
        request = Get(key=key, at_revision=at_revision, project=self._project(project), space=space)
        reply = await self.call(request, timeout_s=timeout_s)
        return reply.entry

    async def range(
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

        At most `limit` of them (None: all); with `keys_only` their values are None. `timeout_s` is for each page of
        1,000. Raises Compacted when `at_revision`, or three listings in a row, fell out of the log window.
        """
        first = Range(
            prefix=prefix, at_revision=at_revision, keys_only=keys_only, project=self._project(project), space=space
        )
        listing = Listing(first, limit)
        while not listing.done:
            try:
                listing.take(await self.call(listing.request(), timeout_s=timeout_s))
            except Compacted as error:
                listing.refused(error)
        return listing.entries

    async def put(
        self,
        key: str,
        value: Any,
        *,
        expect_revision: int | None = None,
        ttl_s: float = 0.0,
        ephemeral: bool = False,
        session: str = "",
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry:
        """Write JSON data under `key`; returns the entry with the value as given.

        `expect_revision`: the mod_revision that must stand (0: must not exist), else Conflict, whose `current` is the
        entry that stands. `ttl_s`: it expires so many seconds after its last put; `ephemeral`: it ends with the
        session, which is the one open on this client, or named by `session`. Without either it stays.
        `request_id`: of a write that ended in UnknownOutcome, to repeat it.
        """
        request = Put(
            key=key,
            value=encoded(value),
            expect_revision=expected(expect_revision),
            ttl_s=ttl_s,
            ephemeral=ephemeral,
            session=self._acting(session),
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        reply = await self.call(request, timeout_s=timeout_s)
        return entry_put(request, reply.written, value)

    async def delete(
        self,
        key: str,
        *,
        expect_revision: int | None = None,
        session: str = "",
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Written | None:
        """Delete the entry; its history stays. None when there was nothing. Raises Conflict as `put` does."""
        request = Delete(
            key=key,
            expect_revision=expected(expect_revision),
            session=self._acting(session),
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        reply = await self.call(request, timeout_s=timeout_s)
        return reply.written

    async def merge(
        self,
        key: str,
        patch: Any,
        *,
        expect_revision: int | None = None,
        session: str = "",
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry:
        """Apply a JSON Merge Patch (RFC 7396) in the daemon; returns the merged entry (without its lease).

        No conflict, however many merge at once, unless `expect_revision` is given.
        """
        request = merge_of(
            key,
            patch,
            expect_revision,
            session=self._acting(session),
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        reply = await self.call(request, timeout_s=timeout_s)
        return entry_of(reply.written, reply.value)

    async def txn(
        self,
        *,
        compares: Sequence[Part] = (),
        then: Sequence[Part] = (),
        otherwise: Sequence[Part] = (),
        session: str = "",
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> TxnReply:
        """Compares and writes as one batch: when all `compares` hold `then` is written, else `otherwise`.

        Parts are structs of `cosession.messages.store` or maps of the same shape:
        `{"kind": "entry", "key": "a", "field": "mod_revision", "value": 3}` and
        `{"kind": "range", "prefix": "b/", "max_mod_revision": 3}` compare; `{"op": "put", "key": "a", "value": 1}`,
        `{"op": "delete", "key": "a"}` and `{"op": "merge", "key": "a", "patch": {}}` write.
        Raises Conflict when a compare failed and there is no `otherwise`.
        """
        request = txn_of(
            compares,
            then,
            otherwise,
            session=self._acting(session),
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        return await self.call(request, timeout_s=timeout_s)

    async def history(
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
        more = True
        while more and len(found) < limit:
            request = History(
                key=key,
                limit=limit - len(found),
                before_revision=found[-1].mod_revision if found else before_revision,
                project=self._project(project),
                space=space,
            )
            reply = await self.call(request, timeout_s=timeout_s)
            found += reply.versions
            more = reply.more and bool(reply.versions)
        return found

    async def update(
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
        to 0.1, 0.2 and 0.4 s; then Conflict is raised. `fn` may run several times and must not call this client.
        As with `put`, an entry updated without `ttl_s` or `ephemeral` loses its lease. `timeout_s` is for each request.
        """
        entry = await self.get(key, project=project, space=space, timeout_s=timeout_s)
        waits = update_waits(self._common.jitter)
        while True:
            value = fn(entry.value if entry else None)
            try:
                return await self.put(
                    key,
                    value,
                    expect_revision=entry.mod_revision if entry else 0,
                    ttl_s=ttl_s,
                    ephemeral=ephemeral,
                    session=session,
                    project=project,
                    space=space,
                    timeout_s=timeout_s,
                )
            except Conflict as conflict:
                wait_s = next(waits, None)
                if wait_s is None:
                    raise
                entry = conflict.current
            if wait_s:
                await pause(wait_s)
                entry = await self.get(key, project=project, space=space, timeout_s=timeout_s)

    async def sessions(
        self,
        *,
        all: bool = False,  # noqa: A002 - the word of the command line and the protocol
        project: str = "",
        limit: int = 200,
        timeout_s: float | None = None,
    ) -> list[Session]:
        """Live sessions, newest first, or with `all` the ended ones too; of one `project`, or of every one."""
        reply = await self.call(List(all=all, project=project, limit=limit), timeout_s=timeout_s)
        return reply.sessions

    async def explain(self, session: str, *, timeout_s: float | None = None) -> ExplainReply:
        """Why a session (an id, or a name that only one has) is in its state: every signal, the verdict, the rule."""
        return await self.call(Explain(session=session), timeout_s=timeout_s)

    async def status(self, *, timeout_s: float | None = None) -> StatusReply:
        """The state of the daemon on one page."""
        return await self.call(Status(), timeout_s=timeout_s)

    async def ping(self, *, timeout_s: float | None = None) -> PingReply:
        """Who answers and where the store stands."""
        return await self.call(Ping(), timeout_s=timeout_s)

    def _project(self, project: str | None) -> str:
        return self._common.project if project is None else project

    def _acting(self, session: str) -> str:
        """The session a write acts for: named, or the only one open here, or the one the environment chose."""
        return session or self._common.attachments.only() or self._common.target.env.get("COSESSION_SESSION", "")
