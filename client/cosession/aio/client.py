"""The client: one connection, replaced when it is lost, and on it every call through its retries.

Rule: what to do after a failure is decided in `exchange`; here it is done. A connection that is handed out has said
hello and knows the sessions that are open on this client.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final
from weakref import WeakSet

from msgspec import UNSET

from cosession.errors import Closed, CosessionError
from cosession.exchange.calls import CallPlan, LinkLost, refuse_streams
from cosession.messages import Request
from cosession.messages.audit import Audit
from cosession.messages.base import R
from cosession.messages.sessions import Register
from cosession.messages.watches import Watch as WatchRequest
from cosession.project import branch_of, project_of, worktree_of
from cosession.reach import target_of

from .audit import AuditTrail
from .contended import Contended
from .io import Gate, Link, Startable, launch, now, pause
from .linking import Common, open_link
from .session import ENDED, Beats, Session
from .watch import Watch

#: What a session of a library promises, in seconds.
HEARTBEAT_S: Final = 20.0
#: How long closing a client may take for each session that is still open.
CLOSE_S: Final = 2.0


class Client(Contended, Startable):
    """What `connect` returns. See `Verbs`, `Series`, `Contended` for what it can be asked, and `watch` and `session`.

    A lost connection is replaced within the time of a call: reads are repeated, writes too, with the same request id.
    After fork() the child cannot use it (Closed): it opens its own.
    """

    def __init__(self, common: Common) -> None:
        self._common = common
        self._gate = Gate()
        self._link: Link | None = None
        self._was_linked = False
        self._beats = Beats(common)
        self._watches: WeakSet[Watch] = WeakSet()
        self._closed = False

    @property
    def project(self) -> str:
        """The project of calls that name none."""
        return self._common.project

    @property
    def socket(self) -> str:
        """The path of the daemon's socket, as it was resolved."""
        return self._common.target.socket

    @property
    def epoch(self) -> str:
        """The epoch last seen."""
        return self._common.memory.epoch

    @property
    def revision(self) -> int:
        """The newest revision seen in that epoch."""
        return self._common.memory.revision

    async def call(self, request: Request[R], *, timeout_s: float | None = None) -> R:
        """Send any request of `cosession.messages`, through reconnects, and return its typed reply.

        Raises TimedOut, Unreachable, UnknownOutcome (a write that was sent got no answer), Closed, and what the daemon
        refuses with.
        """
        refuse_streams(request)
        plan = CallPlan(request, self._common.new_id)
        deadline = now() + (self._common.timeout_s if timeout_s is None else timeout_s)
        while True:
            self._require_open()
            try:
                link = self._link
                if link is None or not link.usable:
                    link = await self._linked(deadline)
                plan.begin(link.epoch)
                reply = await link.call(plan.request, deadline, plan.sent)
            except (LinkLost, CosessionError) as failure:
                error = _closed() if self._closed and isinstance(failure, LinkLost) else failure
                wait_s = plan.after(error, jitter=self._common.jitter(), left_s=deadline - now())
            else:
                self._common.memory.observe(reply.revision)
                return reply
            await pause(wait_s)

    def watch(
        self,
        prefix: str = "",
        *,
        key: str = "",
        start_revision: int = 0,
        epoch: str = "",
        snapshot: bool = True,
        project: str | None = None,
        space: str = "context",
        timeout_s: float | None = None,
    ) -> Watch:
        """Changes under `prefix` (or of exactly `key`), in order, over a connection of its own.

        First what is there now, as puts (not with `snapshot=False`), then every change. `start_revision` (with `epoch`)
        resumes: every change of that revision and later. Iterating raises TimedOut when nothing came for `timeout_s`
        seconds (None: it waits), Compacted when the position left the log window. See `Watch` and `Reset`.
        """
        self._require_open()
        request = WatchRequest(
            prefix=prefix,
            key=key,
            start_revision=start_revision,
            epoch=epoch,
            project=self._project(project),
            space=space,
        )
        watch = Watch(self._common, request, snapshot=snapshot, timeout_s=timeout_s)
        self._watches.add(watch)
        return launch(watch)

    def follow_audit(
        self,
        *,
        session: str = "",
        kind: str = "",
        project: str = "",
        after: int | None = None,
        epoch: str = "",
    ) -> AuditTrail:
        """Records of the audit as they are written, oldest first: those above id `after` (of `epoch`), or those to
        come. Filters as for `audit`. See `AuditTrail`.
        """
        self._require_open()
        request = Audit(
            session=session, kind=kind, project=project, after=UNSET if after is None else after, epoch=epoch
        )
        return launch(AuditTrail(self._common, request))

    def session(
        self,
        *,
        agent: str = "",
        name: str = "",
        id: str = "",
        model: str = "",
        heartbeat_s: float = HEARTBEAT_S,
        pid: int = 0,
        replaces: str = "",
        transcript: str = "",
        directory: str = ".",
        project: str | None = None,
    ) -> Session:
        """Open a session, or attach to the one with this `id`; at the end of its block it is closed gracefully.

        `agent`, `model` and `name` are labels. `heartbeat_s` promises a sign of life that often and keeps the promise
        in the background (0: none). `pid`: the process whose life is the session's (0: this one; else an ancestor).
        `replaces`: the session this one continues in the same process. Worktree and branch are those of `directory`.
        """
        self._require_open()
        env = self._common.target.env
        register = Register(
            id=id,
            name=name,
            agent=agent,
            model=model,
            project=self._project(project),
            worktree=_text(worktree_of(directory)),
            branch=branch_of(directory),
            cwd=_text(_absolute(directory)),
            host=os.uname().nodename,
            transcript=transcript,
            heartbeat_s=heartbeat_s,
            pid=pid,
            replaces=replaces,
            session_token=env.get("COSESSION_TOKEN", "") if id and id == env.get("COSESSION_SESSION") else "",
        )
        return launch(Session(self, self._common, self._beats, register))

    async def close(self) -> None:
        """Close the sessions opened here, the watches and the connection; nothing runs afterwards. Harmless twice.

        What was interrupted is finished by closing again. A daemon that cannot be told in time takes the sessions that
        were open for crashed once this process is over.
        """
        if not self._closed and not self._common.is_foreign:
            for session in self._beats.open_sessions():
                with contextlib.suppress(CosessionError):
                    await session.close(timeout_s=CLOSE_S)
        self._closed = True
        await self._beats.close()
        for watch in list(self._watches):
            await watch.close()
        if self._link:
            await self._link.close()

    async def _start(self) -> None:
        self._require_open()
        await self._linked(now() + self._common.timeout_s)

    async def _linked(self, deadline: float) -> Link:
        """The connection, made anew where it is lost; one caller at a time makes it."""
        async with self._gate.held(deadline):
            link = self._link
            if link is not None:
                if link.usable:
                    return link
                self._link = None
                await link.close()
            link = await open_link(self._common, self._common.target, deadline, again=self._was_linked)
            try:
                for register in self._common.attachments.requests():
                    await self._reattach(link, register, deadline)
                self._require_open()
            except BaseException:
                await link.close()
                raise
            self._was_linked = True
            self._link = link
            return link

    async def _reattach(self, link: Link, register: Register, deadline: float) -> None:
        try:
            await link.call(register, deadline)
        except CosessionError as error:
            if error.code not in ENDED:
                raise
            self._beats.ended(register.id, error.message)

    def _require_open(self) -> None:
        if self._closed:
            raise _closed()
        if self._common.is_foreign:
            raise Closed("cannot use a client made before fork(); connect again in this process")


def connect(
    socket: str | os.PathLike[str] | None = None,
    *,
    project: str | None = None,
    timeout_s: float = 10.0,
    spawn: bool = True,
) -> Client:
    """A client of the daemon, which is started when it does not run.

    `socket`: another path than the one `cosession sockname` prints; then nothing is started. `project`: of calls that
    name none (None: of the working directory). `timeout_s`: for connecting, and for calls that say nothing else.
    Raises Unreachable, NotAllowed (another user's daemon), ConfigError, and `incompatible` with the command to run.
    """
    target = target_of(socket, spawn=spawn)
    chosen = project_of() if project is None else project
    return launch(Client(Common(target, project=chosen, timeout_s=timeout_s)))


def _absolute(directory: str) -> str:
    try:
        return os.path.abspath(directory)  # noqa: PTH100 - as the user sees it, without resolving links
    except OSError:
        return ""  # the working directory was removed


def _text(path: str) -> str:
    """A path to show: what is no UTF-8 in it is replaced."""
    return os.fsencode(path).decode(errors="replace")


def _closed() -> Closed:
    return Closed("cannot call: this client was closed; connect again")
