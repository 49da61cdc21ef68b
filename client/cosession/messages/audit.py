"""The verb that reads the audit: what the daemon judged, refused and was told to do.

Rule: names and meaning are those of `client/PROTOCOL.md`. A record has no values, no patches, no session tokens and
nothing else of a request but names.
"""

from __future__ import annotations

from typing import ClassVar, Final

from msgspec import UNSET, UnsetType

from cosession.messages.base import Reply, Request
from cosession.model import AuditRecord

#: Every kind of record, and no other. `tool` is kept for the hooks of AI clients; nothing writes it yet.
KINDS: Final = ("verdict", "denial", "admin", "tool", "mail")


class AuditReply(Reply, frozen=True, kw_only=True):
    """`records` in the order asked for; `more` says that further ones may follow, also behind an empty page: `next` is
    what to pass on as `after` or `before`. `first` to `last` are kept, `cut` are not any more; `oldest` is when the
    first happened, 0 without any.
    """

    records: list[AuditRecord] = []
    more: bool = False
    next: int = 0
    first: int = 1
    last: int = 0
    cut: int = 0
    oldest: float = 0.0
    epoch: str = ""


class Audit(Request[AuditReply], frozen=True, kw_only=True):
    """Records of the audit, newest first and below `before`, if that is above 0; or, with `after`, oldest first and
    above it.

    Every filter must fit: `session` and `project` exactly, `kind`, and `since` <= time < `until` in seconds since the
    Unix epoch (0: no bound). With `after`, `wait_s` waits so long for a record where none is there yet; `epoch` is the
    one that `after` belongs to. Errors: epoch_changed, overloaded, shutting_down.
    """

    method: ClassVar[str] = "audit"
    session: str = ""
    kind: str = ""
    project: str = ""
    since: float = 0.0
    until: float = 0.0
    after: int | UnsetType = UNSET
    before: int = 0
    limit: int = 100
    wait_s: float = 0.0
    epoch: str = ""
