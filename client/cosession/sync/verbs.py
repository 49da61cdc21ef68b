# Made from cosession/aio/verbs.py by tests/client/unasync.py; change that one.
"""The verbs of a client: one method per operation of the store and the daemon.

What all of them take and raise is said once, in the docstring of `Client`.

Rule: a method turns arguments into one request, calls, and turns the reply into a result; no I/O, no policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from cosession.exchange.verbs import (
    Part,
    add_of,
    append_of,
    encoded,
    entry_of,
    entry_put,
    expected,
    merge_of,
    txn_of,
)
from cosession.messages import Request
from cosession.messages.admin import Ping, PingReply, Status, StatusReply
from cosession.messages.base import R
from cosession.messages.past import Compact, CompactReply
from cosession.messages.sessions import (
    Explain,
    ExplainReply,
    List,
    SimulateCrash,
    WhyNot,
    WhyNotReply,
)
from cosession.messages.store import AppendReply, Delete, Get, Put, TxnReply
from cosession.model import Entry, Session, Written
from cosession.targets import resolve

from .io import aside
from .linking import Common


class Verbs:
    """What a client can be asked. `call` is the whole of it; the rest is convenience."""

    _common: Common

    def call(self, request: Request[R], *, timeout_s: float | None = None) -> R:
        """Send any request of `cosession.messages` and return its typed reply."""
        raise NotImplementedError

    def get(
        self,
        key: str,
        *,
        at_revision: int = 0,
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry | None:
        """The entry, None when absent.

        As it was `at_revision`, when that is given: then Compacted or CosessionError `future_revision` may be raised.

            client.put("plan/next", {"step": 1})
            entry = client.get("plan/next")
            (entry.value, entry.version)  # -> ({'step': 1}, 1)
            client.get("plan/nothing")  # -> None
        """
        request = Get(key=key, at_revision=at_revision, project=self._project(project), space=space)
        reply = self.call(request, timeout_s=timeout_s)
        return reply.entry

    def put(
        self,
        key: str,
        value: Any,
        *,
        expect_revision: int | None = None,
        ttl_s: float = 0.0,
        ephemeral: bool = False,
        session: str = "",
        fence: int = 0,
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry:
        """Write JSON data under `key`; returns the entry with the `value` as given.

        Raises Conflict, whose `current` is the entry that stands. `ttl_s`: it expires so many seconds after its last
        put; `ephemeral`: it ends with its session. Without either it stays.
        """
        request = Put(
            key=key,
            value=encoded(value),
            expect_revision=expected(expect_revision),
            ttl_s=ttl_s,
            ephemeral=ephemeral,
            session=self._acting(session),
            fence=fence,
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        reply = self.call(request, timeout_s=timeout_s)
        return entry_put(request, reply.written, value)

    def delete(
        self,
        key: str,
        *,
        expect_revision: int | None = None,
        session: str = "",
        fence: int = 0,
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Written | None:
        """Delete the entry; its history stays. Returns what was done, None when there was nothing. Raises Conflict."""
        request = Delete(
            key=key,
            expect_revision=expected(expect_revision),
            session=self._acting(session),
            fence=fence,
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        reply = self.call(request, timeout_s=timeout_s)
        return reply.written

    def merge(
        self,
        key: str,
        patch: Any,
        *,
        expect_revision: int | None = None,
        session: str = "",
        fence: int = 0,
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry:
        """Apply a JSON Merge Patch (RFC 7396) in the daemon; returns the merged entry (without its lease).

        The members of `patch` replace those of the value, None removes one, dicts are merged; a patch that is no dict
        replaces the value. An absent entry counts as {}. No Conflict, however many merge at once, unless
        `expect_revision` is given. Raises TooLarge when the result is.

            client.put("plan/next", {"step": 1, "owner": "heron"})
            entry = client.merge("plan/next", {"step": 2, "owner": None})
            entry.value  # -> {'step': 2}
        """
        request = merge_of(
            key,
            patch,
            expect_revision,
            session=self._acting(session),
            fence=fence,
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        reply = self.call(request, timeout_s=timeout_s)
        return entry_of(reply.written, reply.value)

    def add(
        self,
        key: str,
        number: float = 1,
        *,
        expect_revision: int | None = None,
        session: str = "",
        fence: int = 0,
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Entry:
        """Add a `number` to the entry in the daemon, absent counts as 0; returns the entry (without its lease).

        No Conflict, however many add at once, unless `expect_revision` is given. Two integers make an integer, a float
        makes a float. Raises CosessionError `wrong_type` when the value is no number (a bool is none), TooLarge when
        the sum is beyond 64 bits.

            client.add("builds", 2)
            entry = client.add("builds")
            entry.value  # -> 3
        """
        request = add_of(
            key,
            number,
            expect_revision,
            session=self._acting(session),
            fence=fence,
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        reply = self.call(request, timeout_s=timeout_s)
        return entry_of(reply.written, reply.value)

    def append(
        self,
        key: str,
        *values: Any,
        expect_revision: int | None = None,
        session: str = "",
        fence: int = 0,
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> AppendReply:
        """Append each of `values` to the list of the entry, in the daemon; absent counts as an empty list.

        The reply has the new `length`, not the list, and what was `written`. No Conflict, however many append at once,
        unless `expect_revision` is given. Raises CosessionError `wrong_type` when the value is no list, TooLarge when
        the list would be.

            reply = client.append("log", "parsed", {"errors": 0})
            (reply.length, reply.written.version)  # -> (2, 1)
        """
        request = append_of(
            key,
            values,
            expect_revision,
            session=self._acting(session),
            fence=fence,
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        return self.call(request, timeout_s=timeout_s)

    def txn(
        self,
        *,
        compares: Sequence[Part] = (),
        then: Sequence[Part] = (),
        otherwise: Sequence[Part] = (),
        session: str = "",
        fence: int = 0,
        request_id: str = "",
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> TxnReply:
        """Compares and writes as one batch: when all `compares` hold `then` is written, else `otherwise`.

        At most 128 writes and 960 KiB in all, each key once. Parts are structs of `cosession.messages.store` or dicts
        of the same shape: `{"kind": "entry", "key": "a", "field": "mod_revision", "value": 3}` (0: absent) and
        `{"kind": "range", "prefix": "b/", "max_mod_revision": 3}` compare; `{"op": "put", "key": "a", "value": 1}`,
        `{"op": "delete", "key": "a"}`, `{"op": "merge", "key": "a", "patch": {}}`,
        `{"op": "add", "key": "a", "number": 1}` and `{"op": "append", "key": "a", "values": [1]}` write. Raises
        Conflict when a compare failed and there is no `otherwise`, CosessionError `wrong_type` as `add` and `append`
        do.

            reply = client.txn(
                compares=[{"kind": "entry", "key": "lock", "value": 0}],
                then=[{"op": "put", "key": "lock", "value": "mine"}, {"op": "add", "key": "taken", "number": 1}],
            )
            (reply.succeeded, [each.key for each in reply.written])  # -> (True, ['lock', 'taken'])
        """
        request = txn_of(
            compares,
            then,
            otherwise,
            session=self._acting(session),
            fence=fence,
            request_id=request_id,
            project=self._project(project),
            space=space,
        )
        return self.call(request, timeout_s=timeout_s)

    def sessions(
        self,
        *,
        all: bool = False,  # noqa: A002 - the word of the command line and the protocol
        project: str = "",
        limit: int = 200,
        timeout_s: float | None = None,
    ) -> list[Session]:
        """Live sessions, newest first, or with `all` the ended ones too; of one `project`, or of every one (""); at
        most `limit`, and at most 960 KiB of them.
        """
        reply = self.call(List(all=all, project=project, limit=limit), timeout_s=timeout_s)
        return reply.sessions

    def explain(self, session: str, *, timeout_s: float | None = None) -> ExplainReply:
        """Why a session is in its state: every signal, the verdict, the rule. `session` is an id, or a name that only
        one has.

        Raises CosessionError `not_found`, and InvalidRequest when several have that name.
        """
        return self.call(Explain(session=session), timeout_s=timeout_s)

    def why_not(
        self,
        *targets: str,
        shared: bool = False,
        directory: str = ".",
        session: str = "",
        project: str | None = None,
        timeout_s: float | None = None,
    ) -> WhyNotReply:
        """Why `targets` were denied: what stands in the way of claiming them now, what to do about it, and the last
        denials of the audit, about them and to `session`. Targets, `shared` and `directory` as for `Session.claim`.

            reply = client.why_not("name:release")
            (reply.free, reply.blockers)  # -> (True, [])
        """
        resolved, worktree = aside(partial(resolve, targets, directory))
        request = WhyNot(
            targets=resolved,
            worktree=worktree,
            project=self._project(project),
            shared=shared,
            session=self._acting(session),
        )
        return self.call(request, timeout_s=timeout_s)

    def simulate_crash(self, session: str, *, timeout_s: float | None = None) -> Session:
        """End a session as if it had crashed, for a drill: all goes as after a real crash, but its process is not
        touched. `session` is an id, or a name that only one has. Returns its record as it ended.

        Raises NotAllowed unless it was opened with `drills=True`, CosessionError `not_found` and `session_ended`.
        """
        reply = self.call(SimulateCrash(session=session), timeout_s=timeout_s)
        return reply.session

    def compact(self, revision: int, *, timeout_s: float | None = None) -> CompactReply:
        """Drop the log below `revision`: older ones can no longer be read at or watched from; `history` stays.

        Returns when it is gone: how many batches went, and the `compact_revision` since. Raises CosessionError
        `future_revision` when the store is not there yet, `damaged` or `io_error` of the backup that comes first.
        """
        return self.call(Compact(revision=revision), timeout_s=timeout_s)

    def status(self, *, timeout_s: float | None = None) -> StatusReply:
        """The state of the daemon on one page."""
        return self.call(Status(), timeout_s=timeout_s)

    def ping(self, *, timeout_s: float | None = None) -> PingReply:
        """Who answers and where the store stands."""
        return self.call(Ping(), timeout_s=timeout_s)

    def _project(self, project: str | None) -> str:
        return self._common.project if project is None else project

    def _acting(self, session: str) -> str:
        """The session a write acts for: named, or the only one open here, or the one the environment chose."""
        return session or self._common.attachments.only() or self._common.target.env.get("COSESSION_SESSION", "")
