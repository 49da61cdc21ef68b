"""What the checkpoints of a session are worth: VERIFIED, RECONSTRUCTED or UNKNOWN, and which one to go on from.

VERIFIED: the newest is what was saved, the head of the session says that it is the newest, and it follows on the one
before. RECONSTRUCTED: the newest is damaged or missing, and this is the newest of those that are whole; what the
session wrote after it is known from the log alone. UNKNOWN: there is none to go on from.

Rule: pure; from what is kept to a verdict and the lines it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from cosession.model import Standing
from cosessiond.checkpoints.records import Head, Seen


class Judged(Struct, frozen=True):
    """The verdict: `chosen` is None for UNKNOWN alone."""

    standing: Standing
    chosen: Seen | None
    evidence: tuple[str, ...]


def judged(kept: Sequence[Seen], head: Head | None) -> Judged:
    """The verdict over the checkpoints of one session, oldest first."""
    damaged = [each for each in kept if not each.is_valid]
    lines = [f"{each.id} is damaged: {each.summary.damaged}" for each in damaged]
    chosen = next((each for each in reversed(kept) if each.is_valid), None)
    if chosen is None:
        if head is not None and not damaged:
            lines.append(f"{head.newest} is missing")
        return Judged("UNKNOWN", None, tuple(lines or ["no checkpoint is kept"]))
    wrong = _wrong(chosen, kept, head)
    if wrong:
        lines.append(wrong)
    name = f"{chosen.id}, number {chosen.summary.number}"
    if wrong or kept[-1] is not chosen:
        return Judged("RECONSTRUCTED", chosen, (*lines, f"{name} is the newest that is whole"))
    return Judged("VERIFIED", chosen, (*lines, f"{name}: hash and chain hold"))


def _wrong(chosen: Seen, kept: Sequence[Seen], head: Head | None) -> str:
    """What speaks against `chosen` being the last that was saved, "" when nothing does."""
    if head is None:
        return "what names the newest is missing"
    if head.newest != chosen.id:
        return f"the newest was {head.newest}, number {head.number}"
    if head.hash != chosen.summary.hash:
        return f"{chosen.id} has not the hash that was noted for it"
    parent = next((each for each in kept if each.id == chosen.summary.parent and each.is_valid), None)
    if parent is not None and parent.summary.hash != chosen.parent_hash:
        return f"{chosen.id} does not follow on {parent.id}"
    return ""
