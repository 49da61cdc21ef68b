"""The verbs about backups: now, list, verify.

Rule: names and meaning are those of `client/PROTOCOL.md`. Whoever waits for what takes long waits a bounded time in one
call, and goes on waiting for the same piece of work by its `number`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from cosession.messages.base import Reply, Request
from cosession.model import Backup

#: How far a piece of work is: it waits for another one to end, it is being copied, it is being read from end to end, it
#: is over.
Phase = Literal["waiting", "copying", "proving", "over"]


class BackupNowReply(Reply, frozen=True, kw_only=True):
    """`backup` when it is there (`phase` over), else None: ask again with `number`. `done_bytes` of `total_bytes` of
    the present phase are done.
    """

    number: int
    phase: Phase
    backup: Backup | None = None
    done_bytes: int = 0
    total_bytes: int = 0


class BackupNow(Request[BackupNowReply], frozen=True, kw_only=True):
    """Make a backup of everything committed so far; answered when it is verified, or after `wait_s`.

    One is made at a time: a second caller is answered with the same one, if all that was committed before its call is
    in it. With `number` none is begun: it waits on for the one that an earlier answer named, in this life of the
    daemon.
    Errors: disk_full, io_error, damaged, not_found, not_allowed, overloaded.
    """

    method: ClassVar[str] = "backup.now"
    number: int = 0
    wait_s: float = 60.0


class BackupListReply(Reply, frozen=True, kw_only=True):
    """`backups` newest first, with those that cannot be used; they lie in `directory`."""

    backups: list[Backup]
    directory: str


class BackupList(Request[BackupListReply], frozen=True, kw_only=True):
    """What backups there are."""

    method: ClassVar[str] = "backup.list"


class BackupVerifyReply(Reply, frozen=True, kw_only=True):
    """`wrong` is what is wrong with the backup `name`, "" when nothing is; of worth only when `phase` is over."""

    number: int
    name: str
    phase: Phase
    wrong: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


class BackupVerify(Request[BackupVerifyReply], frozen=True, kw_only=True):
    """Read a backup (the newest valid one without a `name`) from end to end, as before it got its name, and hold it
    against its manifest; answered when that is done, or after `wait_s`. With `number` it waits on. What is found
    damaged is not used any more. Errors: not_found, overloaded.
    """

    method: ClassVar[str] = "backup.verify"
    name: str = ""
    number: int = 0
    wait_s: float = 60.0
