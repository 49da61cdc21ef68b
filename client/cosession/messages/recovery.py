"""The verb of recovery: session.recover.

Rule: the daemon says what is in the store; what has become of files and commits is for the client to compare.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

from cosession.messages.base import Reply, Request
from cosession.model import ChangeKind, Checkpoint, Claim, Session, Standing


class Offer(Struct, frozen=True, kw_only=True):
    """Whether to offer a recovery. `state`: `open` now, `waiting` for `wait_s` seconds because this work has crashed
    several times (`crashes`, in the last hour), or not, because it is a `loop`.
    """

    state: Literal["open", "waiting", "loop"] = "open"
    crashes: int = 0
    wait_s: float = 0.0


class LostClaim(Struct, frozen=True, kw_only=True):
    """A claim that the session held when it saved its checkpoint, on `targets` for a `purpose`, and `why` it cannot be
    had any more.
    """

    targets: list[str]
    purpose: str = ""
    why: str = ""


class ChangedEntry(Struct, frozen=True, kw_only=True):
    """The entry `key`, written after the checkpoint: the `kind` of its newest change, its `revision`, by which
    `session` (`name`) with which `operation`, and its `time` in seconds since the Unix epoch.
    """

    key: str
    kind: ChangeKind
    revision: int
    session: str = ""
    name: str = ""
    operation: str = ""
    time: float = 0.0


class EndedEntry(Struct, frozen=True, kw_only=True):
    """The ephemeral entry `key`, which ended with the session. `state`: it can be put back (`restorable`), was
    (`restored`), stands again by another `session` (`taken`), or its last value is no longer kept (`gone`).
    """

    key: str
    state: Literal["restorable", "restored", "taken", "gone"]
    session: str = ""


class RecoverReply(Reply, frozen=True, kw_only=True):
    """What is recovered, or with `plan` would be.

    `session` is the dead one, `by` the one that took over (None in a plan). `standing` says what the `checkpoint` is
    worth, `evidence` why. `claims` were adopted, or can be; `lost` cannot. `letters` are those it had not read.
    `ephemeral` are entries that ended with it. `changes` are what others wrote in its project since the checkpoint,
    `later` what it wrote itself; `more`: there are others, or the log does not reach back so far. `offer`: whether to
    offer it unasked. `took_ms` is how long
    the daemon took.
    """

    session: Session
    by: Session | None = None
    standing: Standing
    evidence: list[str] = []
    checkpoint: Checkpoint | None = None
    claims: list[Claim] = []
    lost: list[LostClaim] = []
    letters: int = 0
    ephemeral: list[EndedEntry] = []
    changes: list[ChangedEntry] = []
    later: list[ChangedEntry] = []
    more: bool = False
    offer: Offer
    took_ms: float = 0.0


class Recover(Request[RecoverReply], frozen=True, kw_only=True):
    """Take over from a session that crashed or was lost (`session`, an id or a name), for the session `by` that the
    caller acts for: its checkpoint, the claims it left, its letters, and with `ephemeral` the entries that ended with
    it. One only does; doing it again is answered as before. `plan`: only say what there is.

    Errors: not_found, not_allowed (it lives, or was closed; or nobody asks), conflict (another has recovered it: `data`
    has `recovered_by`), session_ended.
    """

    method: ClassVar[str] = "session.recover"
    session: str
    plan: bool = False
    ephemeral: bool = False
    by: str = ""
