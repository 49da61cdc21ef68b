"""Why a claim is not to be had: what is in its way, for the answer, in words and as data.

Rule: pure; it says who, for what, whether that one lives, how long still, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import to_builtins
from msgspec.structs import replace

from cosession.errors import Claimed
from cosession.model import Blocker, Claim
from cosessiond.claims.ports import Holder
from cosessiond.claims.targets import Pair, Targets

#: Blockers that an answer shows.
BLOCKERS_MAX: Final = 16
_SHOWN_MAX: Final = 120


def blocker(
    overlaps: Sequence[Pair], claim: Claim, holder: Holder, *, left_s: float, waiting: bool, ahead: int
) -> Blocker:
    """One thing in the way: a claim, or a request that waits ahead; `overlaps` are the pairs of targets."""
    return Blocker(
        claim=replace(claim, expires_in_s=left_s),
        waiting=waiting,
        name=holder.name,
        agent=holder.agent,
        session_state=holder.state,
        overlaps=tuple(overlaps),
        ahead=ahead,
    )


def claimed(wanted: Targets, blockers: Sequence[Blocker], count: int) -> Claimed:
    """The refusal; `blockers` are the first of `count`."""
    first = blockers[0]
    what = first.overlaps[0][0] if first.overlaps else wanted.each[0].text
    others = f" (and {count - 1} more)" if count > 1 else ""
    return Claimed(
        f"cannot claim {what[:_SHOWN_MAX]}: {in_words(first)}{others}; {remedy(first)}",
        data={"blockers": to_builtins(list(blockers)), "count": count},
    )


def in_words(blocker: Blocker) -> str:
    """Who is in the way, with what, and for how long."""
    claim = blocker.claim
    who = f"session {blocker.name or claim.session}"
    about = ", ".join(filter(None, (blocker.agent, blocker.session_state)))
    verb = "waits ahead for" if blocker.waiting else "left" if claim.state == "orphaned" else "holds"
    what = blocker.overlaps[0][1] if blocker.overlaps else claim.targets[0]
    words = f"{who} ({about}) {verb} {what[:_SHOWN_MAX]}" if about else f"{who} {verb} {what[:_SHOWN_MAX]}"
    if claim.purpose:
        words += f' for "{claim.purpose[:_SHOWN_MAX]}"'
    return words + ("" if blocker.waiting else f", {left(claim.expires_in_s)}")


def remedy(blocker: Blocker) -> str:
    """What to do about it."""
    if blocker.claim.state == "orphaned":
        return "wait that long, or recover that session to adopt its claims"
    return "wait for it (wait_s), choose other targets, or ask the holder to release it"


def left(expires_in_s: float) -> str:
    """How long a claim lasts still, in words."""
    if expires_in_s < 0:
        return "as long as its session lives"
    if expires_in_s < 90:  # noqa: PLR2004 - below it seconds say more
        return f"{expires_in_s:.0f} s left"
    return f"{expires_in_s / 60:.0f} min left"
