"""backup.now, backup.list, backup.verify: asked for, waited for, told.

Rule: a call waits for a bounded time; the work goes on without it, and is found again by its number.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Final, Literal, cast

from cosession.errors import CosessionError, InvalidRequest
from cosession.messages import Reply
from cosession.messages import backup as messages
from cosession.messages.limits import BACKUP_WAIT_S_MAX
from cosession.model import Backup
from cosessiond.backups.schedule import Work
from cosessiond.backups.vault import Outcome
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.server.waiting import Waiter
from cosessiond.store.backup import Found


def now(core: Core, call: Call, request: messages.BackupNow) -> None:
    """Begin, or join what was begun."""
    until_s = _until(core, request.wait_s)
    if request.number:
        work = _work(core, request.number, "make")
    else:
        work = core.backups.ask("demand", call.conversation.caller())
    _Wait(core, call, work, until_s, lambda work: _made(core, work)).look()


def verify(core: Core, call: Call, request: messages.BackupVerify) -> None:
    """Begin, or go on waiting."""
    until_s = _until(core, request.wait_s)
    if request.number:
        work = _work(core, request.number, "verify")
    else:
        newest = core.backups.newest
        name = request.name or (newest.name if newest else "")
        if not name:
            raise CosessionError("cannot verify: there is no backup; make one: cosession backup now", code="not_found")
        work = core.backups.verify(name, call.conversation.caller())
    _Wait(core, call, work, until_s, lambda work: _verified(core, work)).look()


def list_(core: Core, _call: Call, _request: messages.BackupList) -> messages.BackupListReply:
    """As it was after the last piece of work: the daemon alone changes what is there."""
    backups = core.backups
    return messages.BackupListReply(
        revision=core.store.revision,
        backups=[public(each) for each in reversed(backups.found)],
        directory=backups.directory,
    )


def public(found: Found) -> Backup:
    """A backup as it is shown."""
    said = found.manifest
    if said is None:
        return Backup(name=found.name, state=found.state, size_bytes=found.size_bytes)
    return Backup(
        name=found.name,
        state=found.state,
        reason=said.reason,
        epoch=said.epoch,
        revision=said.revision,
        entries=said.entries,
        size_bytes=found.size_bytes,
        time=said.time_ms / 1000,
        schema=said.schema,
        version=said.version,
    )


class _Wait:
    """One call that waits for the end of a piece of work."""

    __slots__ = ("_call", "_core", "_reply", "_until_s", "_work")

    def __init__(self, core: Core, call: Call, work: Work, until_s: float, reply: Callable[[Work], Reply]) -> None:
        self._core = core
        self._call = call
        self._work = work
        self._until_s = until_s
        self._reply = reply

    def look(self) -> None:
        """Answer if it is over; else wait on."""
        result = self._work.result
        if isinstance(result, CosessionError):
            self._call.fail(result)
        elif result is not None or self._core.clock.monotonic() >= self._until_s:
            self._tell()
        else:
            waiter = Waiter(self._call.conversation, None, self.look, self._tell, self._call.fail)
            try:
                self._core.waiting.add(waiter, self._until_s)
            except CosessionError as error:
                self._call.fail(error)

    def _tell(self) -> None:
        self._call.reply(self._reply(self._core.backups.progress(self._work)))
        self._core.flush()


def _made(core: Core, work: Work) -> messages.BackupNowReply:
    result = work.result
    found = [each for each in result.found if each.name == work.name] if isinstance(result, Outcome) else []
    return messages.BackupNowReply(
        revision=core.store.revision,
        number=work.number,
        phase=cast("messages.Phase", work.phase),
        backup=public(found[0]) if found else None,
        done_bytes=work.done_bytes,
        total_bytes=work.total_bytes,
    )


def _verified(core: Core, work: Work) -> messages.BackupVerifyReply:
    return messages.BackupVerifyReply(
        revision=core.store.revision,
        number=work.number,
        name=work.name,
        phase=cast("messages.Phase", work.phase),
        wrong=work.result.wrong if isinstance(work.result, Outcome) else "",
        done_bytes=work.done_bytes,
        total_bytes=work.total_bytes,
    )


def _work(core: Core, number: int, kind: Literal["make", "verify"]) -> Work:
    admission.revision(number, "number")
    work = core.backups.works.get(number)
    if work is None or work.kind != kind:
        raise CosessionError(
            f"cannot wait for number {number}: this daemon knows nothing of it; see: cosession backup list",
            code="not_found",
        )
    return work


def _until(core: Core, wait_s: float) -> float:
    if not (isfinite(wait_s) and 0 <= wait_s <= BACKUP_WAIT_S_MAX):
        raise InvalidRequest(f"cannot wait {wait_s} s: 0 to {BACKUP_WAIT_S_MAX}; ask again with `number` after that")
    return core.clock.monotonic() + wait_s


ROWS: Final = (
    Row(messages.BackupNow, Access.ADMIN, now),
    Row(messages.BackupList, Access.ADMIN, list_),
    Row(messages.BackupVerify, Access.ADMIN, verify),
)
