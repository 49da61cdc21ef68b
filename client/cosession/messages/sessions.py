"""The verbs of sessions: register, heartbeat, close, list, explain, why_not, simulate_crash.

Rule: a request acts for a session its caller may act for: the connection registered it, or the caller's
process or an ancestor of it is an instance, or the session token is presented.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL, AuditRecord, Blocker, Session


class RegisterReply(Reply, frozen=True, kw_only=True):
    """`session_token` proves the session from places where the kernel cannot (`$COSESSION_TOKEN`)."""

    session: Session
    session_token: str


class Register(Request[RegisterReply], frozen=True, kw_only=True):
    """Begin a session, add an instance to it, or re-attach to it after a reconnect. Repeating it is safe.

    `id` is the agent's own id of the conversation, else one is made. `pid` names the process whose life is the
    session's (0 = the caller); it must be the caller or an ancestor of it. `replaces` ends another session of the
    same process as superseded. `heartbeat_s` is a promise: three missed make the session suspect; 0 promises nothing.
    `drills` allows `session.simulate_crash`; of several instances all must.
    """

    method: ClassVar[str] = "session.register"
    id: str = ""
    name: str = ""
    agent: str = ""
    model: str = ""
    project: str = GLOBAL
    worktree: str = ""
    branch: str = ""
    cwd: str = ""
    host: str = ""
    transcript: str = ""
    heartbeat_s: float = 0.0
    pid: int = 0
    replaces: str = ""
    drills: bool = False
    session_token: str = ""


class HeartbeatReply(Reply, frozen=True, kw_only=True):
    """`state` as it stands after the heartbeat; `events` since the last checkpoint of the session, and whether it is
    time for one.
    """

    state: str
    events: int = 0
    checkpoint_due: bool = False


class Heartbeat(Request[HeartbeatReply], frozen=True, kw_only=True):
    """A sign of life; lives in memory. Errors: not_found, session_ended, not_allowed.

    `events`: so many tool events have happened since the last heartbeat; a checkpoint is due after `checkpoint_every`
    of them.
    """

    method: ClassVar[str] = "session.heartbeat"
    session: str
    session_token: str = ""
    events: int = 0
    checkpoint_every: int = 25


class CloseReply(Reply, frozen=True, kw_only=True):
    """The record as closed."""

    session: Session


class Close(Request[CloseReply], frozen=True, kw_only=True):
    """End a session gracefully, whether or not its process lives on. Closing a closed session is fine."""

    method: ClassVar[str] = "session.close"
    session: str
    reason: str = ""
    session_token: str = ""


class ListReply(Reply, frozen=True, kw_only=True):
    """Newest first; `more` says that older ones did not fit."""

    sessions: list[Session] = []
    more: bool = False


class List(Request[ListReply], frozen=True, kw_only=True):
    """Live sessions, or `all` with the ended ones; of one `project`, or of every one when that is empty."""

    method: ClassVar[str] = "session.list"
    all: bool = False
    project: str = ""
    limit: int = 200


class Layer(Struct, frozen=True, kw_only=True):
    """One `layer` of the cascade: the `signal` it gives, the `evidence` for it, and what looking cost, `cost_ms` in
    milliseconds.
    """

    layer: str
    signal: str
    evidence: str
    cost_ms: float


class ExplainReply(Reply, frozen=True, kw_only=True):
    """The record of the `session`, the `layers` in the order of the cascade, and the verdict.

    The verdict has three answers: `liveness` (alive, suspect, dead, unknown), `ending` (none, closed, superseded,
    crashed, lost), `recoverability` (full, blocked, damaged, none, unknown); `rule` is the one that decided. `silent_s`
    is how long ago the last sign of life was, or the end; `cost_ms` what all of it took, in milliseconds. `extra` is
    empty in this release.
    """

    session: Session
    layers: list[Layer] = []
    liveness: str = ""
    ending: str = ""
    recoverability: str = ""
    rule: str = ""
    silent_s: float = 0.0
    cost_ms: float = 0.0
    extra: dict[str, Any] = {}


class Explain(Request[ExplainReply], frozen=True, kw_only=True):
    """Why a session is in the state it is in: every signal, the verdict, the rule. Error: not_found.

    `session` is an id, or a name that exactly one session has (live ones first).
    """

    method: ClassVar[str] = "session.explain"
    session: str


class WhyNotReply(Reply, frozen=True, kw_only=True):
    """What stands in the way now, and what was refused before.

    `free`: a claim of the targets would be granted now; else `blockers` say what is in the way, at most sixteen of
    `count`, and `remedy` what to do about the first. `denials` are the last of the audit, newest first, at most ten:
    about any of the targets, whoever asked, and to the session that asks now, whatever about; of the last 24 hours.
    `more`: some of those hours were not looked at, there were too many records.
    """

    free: bool
    blockers: list[Blocker] = []
    count: int = 0
    remedy: str = ""
    denials: list[AuditRecord] = []
    more: bool = False


class WhyNot(Request[WhyNotReply], frozen=True, kw_only=True):
    """Why the caller was denied `targets`: the fields are those of `claim.check`. Changes nothing."""

    method: ClassVar[str] = "session.why_not"
    targets: list[str]
    worktree: str = ""
    project: str = GLOBAL
    shared: bool = False
    session: str = ""


class SimulateCrashReply(Reply, frozen=True, kw_only=True):
    """The record of the `session` as it ended."""

    session: Session


class SimulateCrash(Request[SimulateCrashReply], frozen=True, kw_only=True):
    """End a session as if its processes had crashed, for a drill: verdict, ephemeral entries, claims and watches go the
    way of a real crash. Its process is not touched, and may register it again.

    `session` as in `session.explain`. Only one that was registered with `drills`, else not_allowed. Errors: not_found,
    session_ended.
    """

    method: ClassVar[str] = "session.simulate_crash"
    session: str
