"""The verbs of claims: acquire, renew, release, list, check, explain.

Rule: paths in targets are resolved by the client, relative to the root of a worktree; the daemon reads none of them.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL, Blocker, Claim, ClaimHold


class AcquireReply(Reply, frozen=True, kw_only=True):
    """The claim as it stands. `renewed`: the session had this very claim already. `waited_s`: seconds in the queue."""

    claim: Claim
    renewed: bool = False
    waited_s: float = 0.0


class Acquire(Request[AcquireReply], frozen=True, kw_only=True):
    """Claim `targets` for the session the caller acts for; see `Claim` for the fields.

    What the session holds itself is never in its way, and asking again for the same targets in the same way renews the
    claim that stands; so repeating a call whose answer was lost is safe. With `wait_s` the call waits in a queue, in
    the order of arrival, as long as its connection stands. Errors: claimed, not_allowed (nobody cannot claim),
    session_ended, overloaded, too_large.
    """

    method: ClassVar[str] = "claim.acquire"
    targets: list[str]
    worktree: str = ""
    project: str = GLOBAL
    shared: bool = False
    purpose: str = ""
    hold: ClaimHold = "activity"
    automatic: bool = False
    ttl_s: float = 600.0
    idle_hold_s: float = 1_800.0
    wait_s: float = 0.0
    session: str = ""


class RenewReply(Reply, frozen=True, kw_only=True):
    """`claims` that stand and have their full time again; `lost` are ids that do not, or not as the caller's."""

    claims: list[Claim] = []
    lost: list[str] = []


class Renew(Request[RenewReply], frozen=True, kw_only=True):
    """Give claims of the caller's `session` their full time again: those with these `ids`, or all. Lives in memory.

    `session_token` proves the session where the kernel cannot.
    """

    method: ClassVar[str] = "claim.renew"
    ids: list[str] = []
    session: str = ""
    session_token: str = ""


class ReleaseReply(Reply, frozen=True, kw_only=True):
    """The ids that were released now; `absent` are those that did not stand any more."""

    released: list[str] = []
    absent: list[str] = []


class Release(Request[ReleaseReply], frozen=True, kw_only=True):
    """Give up claims of the caller's session: those with these `ids`, or `all`. `force` releases another's, which is
    for the user to ask for, and is written into the audit. Errors: not_allowed.
    """

    method: ClassVar[str] = "claim.release"
    ids: list[str] = []
    all: bool = False
    force: bool = False
    session: str = ""


class ClaimStanding(Struct, frozen=True, kw_only=True):
    """A claim with who holds it: `name`, `agent` and `session_state` of the session. `waiting` ask for it; of a request
    that itself waits, `waits_s` is since when, -1 for a claim that stands.
    """

    claim: Claim
    name: str = ""
    agent: str = ""
    session_state: str = ""
    waiting: int = 0
    waits_s: float = -1.0


class ListReply(Reply, frozen=True, kw_only=True):
    """In the order of their grants, then those that wait, in their order; `more` says that some did not fit."""

    claims: list[ClaimStanding] = []
    more: bool = False


class List(Request[ListReply], frozen=True, kw_only=True):
    """The claims of one `project`, or of every one when that is empty; of one `session`, or of all."""

    method: ClassVar[str] = "claim.list"
    project: str = ""
    session: str = ""
    limit: int = 200


class CheckReply(Reply, frozen=True, kw_only=True):
    """`free`: the claim would be granted now; else `blockers` says what is in the way, at most sixteen of `count`."""

    free: bool
    blockers: list[Blocker] = []
    count: int = 0


class Check(Request[CheckReply], frozen=True, kw_only=True):
    """Whether `targets` could be claimed now, and if not, why. Changes nothing."""

    method: ClassVar[str] = "claim.check"
    targets: list[str]
    worktree: str = ""
    project: str = GLOBAL
    shared: bool = False
    session: str = ""


class ExplainReply(Reply, frozen=True, kw_only=True):
    """The `standing` of the claim, the rules that hold for it in `lines`, and who waits for it, first comes first."""

    standing: ClaimStanding
    lines: list[str] = []
    waiters: list[ClaimStanding] = []


class Explain(Request[ExplainReply], frozen=True, kw_only=True):
    """Why a claim stands and when it ends. `claim` is its id or its fencing token. Error: not_found."""

    method: ClassVar[str] = "claim.explain"
    claim: str
