# Made from cosession/aio/client.py by tests/client/unasync.py; change that one.
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
from cosession.project import branch_of, project_meant, project_of, worktree_of
from cosession.reach import target_of

from .audit import AuditTrail
from .io import Gate, Link, Startable, launch, now, pause
from .linking import Common, open_link
from .recovery import Recoveries
from .session import ENDED, Beats, Session
from .watch import Watch

#: What a session of a library promises, in seconds.
HEARTBEAT_S: Final = 20.0
#: How long closing a client may take for each session that is still open.
CLOSE_S: Final = 2.0


class Client(Recoveries, Startable):
    """What `connect` returns: the shared context, sessions and watches of one program.

    One connection, made anew when it is lost, within the time of a call: reads are repeated, writes too, with the same
    request id. Threads of the blocking client, tasks of the asyncio one, may share it. After fork() the child cannot
    use it (Closed): it opens its own.

    A `key` has 1 to 512 bytes of UTF-8, a `prefix` is any beginning of keys; values are JSON data (None, bool, int of
    64 bits, finite float, str, list, dict with keys that are strings) of up to 262,144 bytes as MessagePack. A revision
    is an int that counts the batches of the whole store within an `epoch`; 0 is "now" or "none". What is a number of
    seconds ends in `_s`.

    These parameters mean the same in every method. `timeout_s`: the seconds that all of it may take, with its requests,
    waits and reconnects (None: as `connect` was told). `project`: where the entry lies (None: as `connect` was told;
    "global": what belongs to no repository). `space`: "context", or "$sessions" to read the records of sessions.
    `session`: the id of the session to act for ("": the one open on this client, else $COSESSION_SESSION).
    `expect_revision`: the mod_revision that must stand (0: there must be no entry; None: whatever stands), else
    Conflict is raised and nothing written. `at_revision`: as it was then (0: now), else Compacted where the log window
    has passed it and `future_revision` where the store is not there yet. `request_id`: makes a repeat safe, see
    UnknownOutcome; used for another write it is `request_id_reused`. `fence`: the token of a claim of that session that
    must still stand (0: none), else Fenced is raised and nothing written.

    Every call may raise Unreachable (no daemon, and none could be started), TimedOut, Closed, InvalidRequest (what is
    given has no place in the protocol), TooLarge (a key, value or batch over its limit), Overloaded (a limit of counts
    or queues), NotAllowed, and CosessionError with the code `shutting_down`, `incompatible`, `damaged` or `internal`.
    Every write may besides raise UnknownOutcome (it was sent, and no answer came), NotAllowed (another's session, or a
    space that is not written by hand), and CosessionError with the code `session_ended`, `not_found` (no such session),
    `store_full`, `quota_exceeded`, `disk_full` or `read_only`. Any error but UnknownOutcome says that no entry was
    written.
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
        """The project of calls that name none: the path of a repository, or "global"."""
        return self._common.project

    @property
    def socket(self) -> str:
        """The path of the daemon's socket, as it was resolved."""
        return self._common.target.socket

    @property
    def epoch(self) -> str:
        """The epoch last seen, "" before the first answer: revisions of two epochs must not be compared."""
        return self._common.memory.epoch

    @property
    def revision(self) -> int:
        """The newest revision seen in that epoch, 0 before the first answer."""
        return self._common.memory.revision

    def call(self, request: Request[R], *, timeout_s: float | None = None) -> R:
        """Send any `request` of `cosession.messages`, through reconnects, and return its typed reply.

        The other methods are made of this one. Raises InvalidRequest for requests that need a connection of their own
        (use `watch`), and what the daemon refuses that request with.
        """
        refuse_streams(request)
        plan = CallPlan(request, self._common.new_id)
        deadline = now() + (self._common.timeout_s if timeout_s is None else timeout_s)
        while True:
            self._require_open()
            try:
                link = self._link
                if link is None or not link.usable:
                    link = self._linked(deadline)
                plan.begin(link.epoch)
                reply = link.call(plan.request, deadline, plan.sent)
            except (LinkLost, CosessionError) as failure:
                error = _closed() if self._closed and isinstance(failure, LinkLost) else failure
                wait_s = plan.after(error, jitter=self._common.jitter(), left_s=deadline - now())
            else:
                self._common.memory.observe(reply.revision)
                return reply
            pause(wait_s)

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
        resumes: every change of that revision and later. `timeout_s` is here how long one change may be waited for
        (None: without end). Iterating raises TimedOut when none came in time, Compacted when the position left the log
        window, EpochChanged when `epoch` is over, CosessionError `future_revision` when the store is not there yet,
        Overloaded when snapshots never come to their end. See `Watch` and `Reset`.

            with client.watch("plan/") as watch:
                client.put("plan/next", {"step": 1})
                change = watch.next(timeout_s=10)
                (change.kind, change.key, change.value)  # -> ('put', 'plan/next', {'step': 1})
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
        """Records of the audit as they are written, oldest first: above id `after` (of `epoch`), or those to come.

        The filters `session`, `kind` and `project` as for `audit`. When `epoch` is over it begins again at the first
        record, where `audit` would raise EpochChanged. See `AuditTrail`.
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
        drills: bool = False,
        transcript: str = "",
        directory: str = ".",
        project: str | None = None,
        auto_checkpoint_every: int = 25,
    ) -> Session:
        """Open a session, or attach to the one with this `id`; at the end of its block it is closed gracefully.

        `agent`, `model`, `name` and `transcript` (a path) are labels. `heartbeat_s`: a sign of life is promised that
        often and given in the background (0: none is promised). `pid`: the process whose life is the session's (0: this
        one; else an ancestor). `replaces`: the session this one continues in the same process. `drills` allows
        `simulate_crash`. `auto_checkpoint_every`: see `Session.event`. Worktree and branch are those of `directory`.
        Raises NotAllowed (that process or session is
        not yours), CosessionError `session_ended` (this process has closed it), Overloaded (10,000 live sessions, or
        16 processes in one), TooLarge, `disk_full`.

            with client.session(agent="example", name="otter", heartbeat_s=0) as session:
                entry = client.put("presence/otter", "here", ephemeral=True)
                entry.session == session.id  # -> True
            client.get("presence/otter")  # -> None
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
            drills=drills,
            session_token=env.get("COSESSION_TOKEN", "") if id and id == env.get("COSESSION_SESSION") else "",
        )
        session = Session(self, self._common, self._beats, register)
        session.looks_at(directory, auto_checkpoint_every)
        return launch(session)

    def close(self) -> None:
        """Close the sessions opened here, the watches and the connection; nothing runs afterwards. Harmless twice.

        What was interrupted is finished by closing again. Takes up to 2 s for each open session; a daemon that cannot
        be told in time takes those for crashed once this process is over.
        """
        if not self._closed and not self._common.is_foreign:
            for session in self._beats.open_sessions():
                with contextlib.suppress(CosessionError):
                    session.close(timeout_s=CLOSE_S)
        self._closed = True
        self._beats.close()
        for watch in list(self._watches):
            watch.close()
        if self._link:
            self._link.close()

    def _start(self) -> None:
        self._require_open()
        self._linked(now() + self._common.timeout_s)

    def _linked(self, deadline: float) -> Link:
        """The connection, made anew where it is lost; one caller at a time makes it."""
        with self._gate.held(deadline):
            link = self._link
            if link is not None:
                if link.usable:
                    return link
                self._link = None
                link.close()
            link = open_link(self._common, self._common.target, deadline, again=self._was_linked)
            try:
                for register in self._common.attachments.requests():
                    self._reattach(link, register, deadline)
                self._require_open()
            except BaseException:
                link.close()
                raise
            self._was_linked = True
            self._link = link
            return link

    def _reattach(self, link: Link, register: Register, deadline: float) -> None:
        try:
            link.call(register, deadline)
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
    `spawn`: whether a daemon may be started. Raises Unreachable, TimedOut, NotAllowed (another user's daemon),
    ConfigError (paths or permissions), and CosessionError `incompatible` with the command to run.

        with cosession.connect(timeout_s=5) as client:
            entry = client.put("plan/next", {"step": 1}, expect_revision=0)
            (entry.key, entry.value, entry.version)  # -> ('plan/next', {'step': 1}, 1)
    """
    target = target_of(socket, spawn=spawn)
    chosen = project_of() if project is None else project_meant(project)
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
