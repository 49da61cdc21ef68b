"""The verbs by subject, one `Request[Reply]` struct each; `REQUESTS` is the whole operation list.

Rule: a method exists when its request struct is listed here; the daemon's operation table, the documents and the
tests are checked against this list.
"""

from __future__ import annotations

from typing import Any, Final

from cosession.messages import (
    admin,
    audit,
    backup,
    checkpoints,
    claims,
    debug,
    hooks,
    mail,
    past,
    recovery,
    sessions,
    store,
    turns,
    watches,
)
from cosession.messages.base import Reply, Request, reply_type

REQUESTS: Final[dict[str, type[Request[Any]]]] = {
    request.method: request
    for request in (
        admin.Hello,
        admin.Ping,
        admin.Status,
        admin.Reload,
        admin.Scrub,
        admin.Stop,
        store.Get,
        store.Range,
        store.Put,
        store.Delete,
        store.Merge,
        store.Add,
        store.Append,
        store.Txn,
        past.History,
        past.Compact,
        past.RevisionAt,
        past.Revert,
        past.Purge,
        turns.Turn,
        audit.Audit,
        backup.BackupNow,
        backup.BackupList,
        backup.BackupVerify,
        watches.Watch,
        watches.Unwatch,
        sessions.Register,
        sessions.Heartbeat,
        sessions.Close,
        sessions.List,
        sessions.Explain,
        sessions.WhyNot,
        sessions.SimulateCrash,
        claims.Acquire,
        claims.Renew,
        claims.Release,
        claims.List,
        claims.Check,
        claims.Explain,
        hooks.Hook,
        mail.Send,
        mail.Inbox,
        mail.Read,
        debug.Clients,
        debug.Watches,
        debug.Tasks,
        debug.Queues,
        debug.Locks,
        debug.LogLevel,
        debug.TraceRequests,
        debug.Metrics,
        debug.Tail,
        checkpoints.Save,
        checkpoints.List,
        checkpoints.Get,
        recovery.Recover,
    )
}

__all__ = [
    "REQUESTS",
    "Reply",
    "Request",
    "admin",
    "audit",
    "backup",
    "checkpoints",
    "claims",
    "debug",
    "hooks",
    "mail",
    "past",
    "recovery",
    "reply_type",
    "sessions",
    "store",
    "turns",
    "watches",
]
