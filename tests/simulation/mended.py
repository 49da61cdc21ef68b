"""Bugs of the daemon that the simulation found and that were mended, each with the run that showed it; and runs that
an oracle found at fault which were not.

Rule: an entry comes here from `known`, with its run as it was, and stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Mended:
    """One bug by the oracle that found it: what was wrong, and runs that must find nothing now."""

    oracle: str
    was: str
    seeds: tuple[int, ...]
    fixed: dict[str, Any] = field(default_factory=dict)


MENDED: Final[tuple[Mended, ...]] = (
    Mended(
        "watched",
        "a snapshot that ended because what it kept was purged (or to make room) began anew in the middle, so that one "
        "watch was sent pages of two revisions: an ended one has no keys, and was taken for none",
        seeds=(0,),
    ),
    Mended(
        "in order",
        "a revert with a request id let the writes behind it go ahead while it was asked whether it is a repeat",
        seeds=(14,),
    ),
    Mended(
        "turns",
        "a transaction that names a key in both branches ended the turn of its connection and the next one as well",
        seeds=(510,),
    ),
    Mended(
        "refused",
        "the repeat of a revert was refused for what the daemon found, when the first attempt had been committed "
        "since it was asked for",
        seeds=(664,),
    ),
    Mended("acknowledged", "a revert that was tried out did not look at its expect_revision", seeds=(33,)),
    Mended(
        "refused",
        "a purge whose deletion was committed was refused because reads filled their queue",
        seeds=(62,),
    ),
    Mended(
        "leases",
        "an expiry that was refused because the disk was full set the deadline of the revision it was for anew, over "
        "that of a put that had renewed the entry meanwhile, which then never ended",
        seeds=(21,),
        fixed={"faults": frozenset({"disk_full", "stall"}), "group_max": 1, "clients": 4, "entries_live": 1_000_000},
    ),
    Mended(
        "ephemerals",
        "what a session owns was counted in memory: one transaction (27, 39), or several puts on their way (49), went "
        "beyond SESSION_EPHEMERALS_MAX, and the batch that ended the session took only so many of them; nor did that "
        "batch see what was on its way (54)",
        seeds=(27, 39, 49, 54),
        fixed={"ephemerals": 2, "faults": frozenset(), "sessions_live": 10_000},
    ),
    Mended(
        "sound",
        "a read that waited came before upkeep every time, so that nothing was trimmed or checkpointed, however much "
        "was written, while reads never ran out (64 watches that catch up are enough)",
        seeds=(12,),
        fixed={
            "upkeep_every": 4,
            "group_max": 4,
            "think_s": 0.01,
            "duration_s": 3.0,
            "clients": 4,
            "faults": frozenset(),
            "in_flight": 256,
        },
    ),
    Mended(
        "sound",
        "of the oracle, not of the daemon: a read took its turn before upkeep that was overdue, and the commit of the "
        "next step raised, which counted as put off twice; but that life was over",
        seeds=(443,),
        fixed={"claims": True},
    ),
    Mended(
        "acknowledged",
        "a dry run of a revert, which looks in slices and commits nothing that would be guarded, told of a state that "
        "never was; so would a revert that finds nothing to do",
        seeds=(3,),
        fixed={"claims": True, "clients": 4, "think_s": 0.01, "duration_s": 2.5, "faults": frozenset({"stall"})},
    ),
)
