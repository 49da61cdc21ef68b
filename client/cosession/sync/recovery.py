# Made from cosession/aio/recovery.py by tests/client/unasync.py; change that one.
"""The verb that recovers a session.

Rule: the daemon decides who recovers; what has become of files is compared here, see `cosession.recovering`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cosession import recovering
from cosession.messages.checkpoints import Get, GetReply
from cosession.messages.recovery import Recover, RecoverReply

from .backups import Backups
from .io import beside


class Recoveries(Backups):
    """`Backups`, and the verbs of recovery."""

    def recover(
        self, session: str, *, plan: bool = False, ephemeral: bool = False, by: str = "", timeout_s: float | None = None
    ) -> RecoverReply:
        """Take over from a `session` that crashed or was lost: its checkpoint, the claims it left, its letters, and
        with `ephemeral` the last values of its ephemeral entries. With `plan` only say what there is.

        `by` is the session that takes over, where this program has several. One only does: raises Conflict with who did
        (`data["recovered_by"]`), NotAllowed when it lives, ended in order, or nobody asks, and CosessionError
        `not_found`, `session_ended`.
        """
        request = Recover(session=session, plan=plan, ephemeral=ephemeral, by=self._acting(by))
        return self.call(request, timeout_s=timeout_s)

    def staleness(self, reply: RecoverReply, *, directory: str = ".") -> dict[str, Any]:
        """What has become of commits and files in `directory` since the checkpoint of the recovery `reply`: `head` and
        `branch` as (was, is) where they moved, `files` that are not as they were, with `why` and `by`.
        """
        checkpoint = msgspec.to_builtins(reply.checkpoint) if reply.checkpoint is not None else None
        return beside(recovering.stale, checkpoint, directory)

    def checkpoint_of(self, checkpoint: str, *, timeout_s: float | None = None) -> GetReply:
        """The `checkpoint` with that id, or the newest that is whole of the session it names. Raises CosessionError
        `not_found` and `damaged`.
        """
        return self.call(Get(checkpoint=checkpoint), timeout_s=timeout_s)
