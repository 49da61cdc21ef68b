"""Sessions of this program: registered, kept alive by heartbeats, closed gracefully.

The heartbeats of all sessions of a client go over one connection of their own, in the background, so that a long call
or a busy program is not taken for a dead one. They never start a daemon: that is for calls that want something.

Its claims are renewed on the same connection, and it tells them when they are lost.

Rule: a session that ended by the daemon's verdict is not revived in the background; `ended` says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from cosession.errors import Closed, CosessionError
from cosession.exchange.calls import LinkLost, prepared
from cosession.exchange.presence import BeatSchedule, Sign
from cosession.messages.claims import Acquire, Renew
from cosession.messages.sessions import Close, Explain, ExplainReply, Register
from cosession.model import ClaimHold
from cosession.model import Session as Record

from .checkpoints import Saving
from .claim import Claim
from .io import Alarm, Background, Link, launch, now
from .linking import Common, open_link
from .mail import Caller

#: How long a heartbeat may take, and how soon one that failed is tried again, in seconds.
BEAT_S: Final = 2.0
#: Answers that say a session is over.
ENDED: Final = frozenset({"session_ended", "not_found", "not_allowed"})


class Session(Saving):
    """One session that this program opened. `id` is known from the start; `client` is the client it was opened on.

    `record` is the daemon's record of it as last answered, None before it is registered. `ended` is "" while it lives,
    else why it does not, as the daemon said when a heartbeat or a re-attach was refused. `session_token` is a secret:
    with `id` it lets a process act for the session that the kernel does not know as part of it ($COSESSION_SESSION and
    $COSESSION_TOKEN, for a container).
    """

    client: Caller
    record: Record | None
    ended: str
    session_token: str

    def __init__(self, client: Caller, common: Common, beats: Beats, register: Register) -> None:
        self.client = client
        self.record = None
        self.ended = ""
        self._common = common
        self._beats = beats
        self._register = prepared(register, common.new_id)
        self.session_token = ""
        self._closed = False

    @property
    def id(self) -> str:
        """The session's id."""
        return self._register.id

    @property
    def name(self) -> str:
        """Its label."""
        return self.record.name if self.record else self._register.name

    async def explain(self, *, timeout_s: float | None = None) -> ExplainReply:
        """Why it is in its state: every signal, the verdict, the rule; `timeout_s` as for all calls.

        Raises CosessionError `not_found` when its record is no longer kept, and what all calls may raise, see `Client`.
        """
        return await self.client.call(Explain(session=self.id), timeout_s=timeout_s)

    def claim(
        self,
        *targets: str,
        shared: bool = False,
        purpose: str = "",
        ttl_s: float = 600.0,
        idle_hold_s: float = 1_800.0,
        hold: ClaimHold = "activity",
        wait_s: float = 0.0,
        on_lost: Callable[[Claim], None] | None = None,
        directory: str = ".",
        project: str | None = None,
        timeout_s: float | None = None,
    ) -> Claim:
        """Claim `targets` for this session; released at the end of its block, renewed until then.

        A target is a path or glob as the shell would read it from `directory` (a directory: all below it), "name:" and
        a name of the `project`, or "machine:" and a name of this machine. `shared` claims stand beside one another.
        `purpose` is what others are told it is for. `hold="process"`: it ends with the session and not by time; else
        `ttl_s` or `idle_hold_s` seconds, whichever is longer, after the last activity. `wait_s`: how long to wait for
        others, in the order of arrival; `timeout_s` (None: as `connect` was told, and `wait_s` more) bounds all of it.
        `on_lost` is called once, in the background, when a renewal finds it ended.

        Raises Claimed, which says who is in the way, CosessionError `session_ended`, Overloaded at a limit,
        InvalidRequest for a path outside of the worktree, TimedOut for one on a mount that does not answer, and what
        all calls may raise, see `Client`.

            session = await client.session(agent="example", heartbeat_s=0)
            async with session.claim("name:release", purpose="0.2.0") as claim:
                entry = await client.put("release/state", "building", fence=claim.token)
                entry.version  # -> 1
            await session.close()
        """
        request = Acquire(
            targets=list(targets),
            project=self._common.project if project is None else project,
            shared=shared,
            purpose=purpose,
            hold=hold,
            ttl_s=ttl_s,
            idle_hold_s=idle_hold_s,
            wait_s=wait_s,
            session=self.id,
        )
        patience_s = self._common.timeout_s + wait_s if timeout_s is None else timeout_s
        return launch(
            Claim(
                self.client,
                self._beats,
                request,
                directory=directory,
                session_token=self.session_token,
                on_lost=on_lost,
                timeout_s=patience_s,
            )
        )

    async def close(self, reason: str = "", *, timeout_s: float | None = None) -> None:
        """End it gracefully: its ephemeral entries go and its state is `closed`. Harmless when done before, and when
        the daemon knows it as over (`not_found`, `session_ended`, NotAllowed).

        `reason` is kept in its record. Raises what kept the daemon from hearing of it within `timeout_s`, see `Client`.
        Until the daemon has answered it is open and its heartbeats go on: after an error, a cancellation or an
        interrupt close it again, or the client, which does that.
        """
        if self._closed or self.record is None or self._common.is_foreign:
            return
        request = Close(session=self.id, reason=reason, session_token=self.session_token)
        try:
            reply = await self.client.call(request, timeout_s=timeout_s)
            self.record = reply.session
        except CosessionError as error:
            if error.code not in ENDED:
                raise
        self._closed = True
        self._beats.remove(self.id)
        self._common.attachments.remove(self.id)

    def _own_project(self) -> str:
        return self.record.project if self.record is not None else self._register.project

    async def _start(self) -> None:
        if self._closed:
            raise Closed(f"cannot begin session {self.id} again: it was closed; open another")
        if self.record is not None:
            return
        reply = await self.client.call(self._register)
        self.record = reply.session
        self.session_token = reply.session_token
        self._common.attachments.add(self._register, reply)
        self._beats.add(self, self._register.heartbeat_s, reply.session_token)


class Beats:
    """The heartbeats of a client's sessions; nothing runs until one has promised any."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._target = replace(common.target, spawn=False)
        self._schedule = BeatSchedule()
        self._sessions: dict[str, Session] = {}
        self._claims: dict[str, Claim] = {}
        self._alarm = Alarm()
        self._background = Background("cosession heartbeats")
        self._link: Link | None = None
        self._stopped = False

    def open_sessions(self) -> list[Session]:
        """The sessions that were added and not removed."""
        return list(self._sessions.values())

    def add(self, session: Session, heartbeat_s: float, session_token: str) -> None:
        """A session was opened; beat for it when it promised so."""
        self._sessions[session.id] = session
        if heartbeat_s > 0:
            self._schedule.add(session.id, heartbeat_s, session_token, now())
            self._alarm.ring()
            self._background.start(self._run)

    def remove(self, session: str) -> None:
        """It is being closed; harmless when done before."""
        self._schedule.remove(session)
        self._sessions.pop(session, None)
        self._lose_claims(session, "its session was closed")
        self._alarm.ring()

    def add_claim(self, claim: Claim) -> None:
        """A claim was granted: renew it."""
        self._claims[claim.id] = claim
        self._schedule.add_renewal(claim.renewal(), claim.period_s, now())
        self._alarm.ring()
        self._background.start(self._run)

    def remove_claim(self, id: str) -> None:
        """It is being released, or is lost; harmless when done before."""
        self._schedule.remove(id)
        self._claims.pop(id, None)
        self._alarm.ring()

    def ended(self, session: str, why: str) -> None:
        """The daemon says that it is over."""
        found = self._sessions.get(session)
        if found:
            found.ended = why
        self._schedule.remove(session)
        self._lose_claims(session, why)
        self._common.attachments.remove(session)

    async def close(self) -> None:
        """Stop, and wait until nothing of it is left."""
        self._stopped = True
        self._alarm.ring()
        await self._drop()
        await self._background.stop()

    async def _run(self) -> None:
        try:
            while not self._stopped:
                wait_s = self._schedule.wait_s(now())
                if wait_s is None:
                    await self._drop()
                if wait_s == 0:
                    await self._beat(self._schedule.due(now()))
                else:
                    await self._alarm.wait(wait_s)
        finally:
            await self._drop()

    async def _beat(self, beats: list[Sign]) -> None:
        try:
            for beat in beats:
                await self._send(beat)
        except (LinkLost, CosessionError):
            await self._drop()
            self._schedule.postpone(BEAT_S, now())

    async def _send(self, beat: Sign) -> None:
        if self._link is None:
            self._link = await open_link(self._common, self._target, now() + BEAT_S, again=True)
        try:
            if isinstance(beat, Renew):
                reply = await self._link.call(beat, now() + BEAT_S)
                claim = self._claims.get(beat.ids[0])
                if claim is not None:
                    claim.renewed(reply.claims)
            else:
                await self._link.call(beat, now() + BEAT_S)
        except CosessionError as error:
            if error.code not in ENDED:
                raise
            self.ended(beat.session, error.message)

    def _lose_claims(self, session: str, why: str) -> None:
        for claim in [each for each in list(self._claims.values()) if each.session == session]:
            claim.lose(why)

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link:
            with contextlib.suppress(CosessionError):
                await link.close()
