"""What must be said again after a reconnect: who we are, what we last saw, which sessions are ours, and their beats.

Rule: pure. The shell says hello and registers; here stands what it says and how an answer is judged.
"""

from __future__ import annotations

from typing import Final

from cosession._version import __version__
from cosession.errors import CosessionError, EpochChanged
from cosession.messages.admin import Hello, HelloReply
from cosession.messages.claims import Renew
from cosession.messages.limits import PROTOCOL_OLDEST, PROTOCOL_VERSION
from cosession.messages.sessions import Heartbeat, Register, RegisterReply

CLIENT_NAME: Final = "cosession-python"
#: Heartbeats sent per promised period. One is enough: a session is suspect after three missed ones, and an idle
#: machine is woken a third as often.
BEATS_PER_PERIOD: Final = 1
#: What is due within this part of its period goes out with the others: one wake-up for several sessions.
_EARLY: Final = 0.1
_RESTART: Final = "run: cosession restart"


class Memory:
    """What this client last saw of the store: it proves a lost tail (promise P14) and notices another epoch.

    And who it is where the kernel cannot tell: `session` with its session token, from the environment, or neither.
    """

    def __init__(self, project: str = "", *, session: str = "", session_token: str = "") -> None:
        self.epoch = ""
        self.revision = 0
        self._project = project
        self._session = session if session_token else ""
        self._session_token = session_token if session else ""

    def hello(self) -> Hello:
        """The first call on a connection."""
        return Hello(
            client=CLIENT_NAME,
            version=__version__,
            protocol_min=PROTOCOL_OLDEST,
            protocol_max=PROTOCOL_VERSION,
            epoch=self.epoch,
            seen_revision=self.revision,
            project=self._project,
            session=self._session,
            session_token=self._session_token,
        )

    def learn(self, reply: HelloReply) -> None:
        """Take the answer to `hello`. Raises CosessionError (incompatible) when we cannot speak with that daemon."""
        if not PROTOCOL_OLDEST <= reply.protocol <= PROTOCOL_VERSION:
            raise CosessionError(
                f"cannot talk to daemon {reply.version} (pid {reply.pid}): it speaks protocol {reply.protocol}, "
                f"this is client {__version__} with protocol {PROTOCOL_OLDEST} to {PROTOCOL_VERSION}; {_RESTART}",
                code="incompatible",
            )
        if reply.epoch != self.epoch:
            self.epoch = reply.epoch
            self.revision = 0
        self.observe(reply.revision)

    def refused(self, error: CosessionError) -> None:
        """Take the refusal of `hello`. Returns when saying it again will do; else raises the error with what to do."""
        if isinstance(error, EpochChanged) and self.epoch:
            self.epoch = ""
            self.revision = 0
            return
        if error.code in ("incompatible", "unknown_method", "invalid_params"):
            raise CosessionError(
                f"cannot talk to the daemon: client {__version__} is not understood ({error.message}); {_RESTART}",
                code="incompatible",
                data=error.data,
            ) from error
        raise error

    def observe(self, revision: int) -> None:
        """A reply was made at this revision."""
        self.revision = max(self.revision, revision)


class Attachments:
    """The sessions this client has open, as they are registered again after a reconnect."""

    def __init__(self) -> None:
        self._registers: dict[str, Register] = {}

    def add(self, register: Register, reply: RegisterReply) -> None:
        """`register` was answered. What is repeated names the id and the session token that were given."""
        self._registers[reply.session.id] = Register(
            id=reply.session.id,
            name=register.name,
            agent=register.agent,
            model=register.model,
            project=register.project,
            worktree=register.worktree,
            branch=register.branch,
            cwd=register.cwd,
            host=register.host,
            transcript=register.transcript,
            heartbeat_s=register.heartbeat_s,
            pid=register.pid,
            drills=register.drills,
            session_token=reply.session_token,
        )

    def remove(self, session: str) -> None:
        """It was closed, or has ended; harmless when done before."""
        self._registers.pop(session, None)

    def requests(self) -> list[Register]:
        """What to send on a new connection, in the order the sessions were opened."""
        return list(self._registers.values())

    def only(self) -> str:
        """The id of the one session that is open, "" when there is none or a choice."""
        return next(iter(self._registers)) if len(self._registers) == 1 else ""


Sign = Heartbeat | Renew


class _Beat:
    """A sign of life and when it is due. Mutable, so that removing it from the schedule is one step."""

    def __init__(self, period_s: float, request: Sign, due: float) -> None:
        self.period_s = period_s
        self.request = request
        self.due = due


class BeatSchedule:
    """When which session's heartbeat is due, and the renewal of which claim, on a clock the caller reads (seconds).

    A beat is due at the multiples of its period on that clock. All processes of a machine share it, so the beats of
    all clients come at the same moments: an idle machine is woken a few times per period, not once per session, and
    the daemon's deadlines, which follow from the beats, fall together too.

    Sessions may come and go in other threads than the one that beats: each change is one step on the dict.
    """

    def __init__(self) -> None:
        self._beats: dict[str, _Beat] = {}

    def add(self, session: str, heartbeat_s: float, session_token: str, now: float) -> None:
        """Beat for `session`, which promised a sign of life every `heartbeat_s` seconds."""
        period_s = heartbeat_s / BEATS_PER_PERIOD
        request = Heartbeat(session=session, session_token=session_token)
        self._beats[session] = _Beat(period_s, request, _next_multiple(period_s, now))

    def add_renewal(self, renewal: Renew, period_s: float, now: float) -> None:
        """Renew one claim every `period_s` seconds."""
        self._beats[renewal.ids[0]] = _Beat(period_s, renewal, _next_multiple(period_s, now))

    def remove(self, name: str) -> None:
        """Beat no more for a session, or renew a claim no more; harmless when done before."""
        self._beats.pop(name, None)

    def wait_s(self, now: float) -> float | None:
        """Seconds until something is due (0 when it is), None when nothing ever will be."""
        due = [beat.due for beat in list(self._beats.values())]
        return max(0.0, min(due) - now) if due else None

    def due(self, now: float) -> list[Sign]:
        """The beats to send now; each is next due at the first multiple of its period after this one."""
        found = [beat for beat in list(self._beats.values()) if beat.due - beat.period_s * _EARLY <= now]
        for beat in found:
            beat.due = _next_multiple(beat.period_s, max(now, beat.due))
        return [beat.request for beat in found]

    def postpone(self, seconds: float, now: float) -> None:
        """What was to be sent just now did not arrive: all are due again within `seconds`."""
        for beat in list(self._beats.values()):
            beat.due = min(beat.due, now + seconds)


def _next_multiple(period_s: float, now: float) -> float:
    """The first multiple of `period_s` after `now`, by at least a thousandth of it: a timer may come a bit early."""
    return (now // period_s + (1 if now % period_s < period_s * 0.999 else 2)) * period_s
