# Made from cosession/aio/backups.py by tests/client/unasync.py; change that one.
"""The verbs about backups. Each is waited for in calls of a bounded time; the daemon goes on with it between them.

Rule: one deadline over all of it, see `series`; what is asked next follows from the last answer alone.
"""

from __future__ import annotations

from typing import Final

from cosession.messages.backup import BackupList, BackupNow, BackupVerify
from cosession.messages.limits import BACKUP_WAIT_S_MAX
from cosession.model import Backup

from .contended import Contended
from .series import left_s

#: How much of the time that is left the daemon may take to answer: what remains is for the way.
_SHARE: Final = 0.9


class Backups(Contended):
    """`Contended`, and the verbs about backups."""

    def backup(self, *, timeout_s: float | None = None) -> Backup:
        """Make a backup of everything committed so far, and return it once it is verified.

        The daemon goes on with it when this times out. Raises CosessionError `disk_full`, `io_error`, or `damaged` when
        the copy was not what it should be.

            client.put("plan/next", 1)
            backup = client.backup(timeout_s=60)
            (backup.state, backup.reason)  # -> ('valid', 'demand')
        """
        deadline = self._deadline(timeout_s)
        number = 0
        while True:
            request = BackupNow(number=number, wait_s=_wait_s(left_s(deadline)))
            reply = self.call(request, timeout_s=left_s(deadline))
            if reply.backup is not None:
                return reply.backup
            number = reply.number

    def backups(self, *, timeout_s: float | None = None) -> list[Backup]:
        """What backups there are, newest first, with those that cannot be used."""
        reply = self.call(BackupList(), timeout_s=timeout_s)
        return reply.backups

    def verify_backup(self, name: str = "", *, timeout_s: float | None = None) -> str:
        """Read a backup (the newest valid one without a `name`) from end to end; returns what is wrong with it, or "".

        Raises CosessionError `not_found` or `io_error`, Overloaded while another is verified.
        """
        deadline = self._deadline(timeout_s)
        number = 0
        while True:
            request = BackupVerify(name=name, number=number, wait_s=_wait_s(left_s(deadline)))
            reply = self.call(request, timeout_s=left_s(deadline))
            if reply.phase == "over":
                return reply.wrong
            number = reply.number


def _wait_s(left: float) -> float:
    return max(0.0, min(_SHARE * left, BACKUP_WAIT_S_MAX))
