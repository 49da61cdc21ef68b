"""Entries and changes as clients see them, and as watches send them.

Rule: pure; a value stays the bytes it is.
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw, msgpack

from cosession import model
from cosession.messages.watches import WatchEvent
from cosessiond.store.engine import Applied, Committed, Entry
from cosessiond.store.hash import is_trace

encode: Final = msgpack.Encoder().encode


def changes_body(outcome: Committed, changes: list[Applied]) -> bytes:
    """The encoded event of one batch, with those of its changes that a watcher selects."""
    time = outcome.time_ms / 1000
    return encode(
        WatchEvent(
            kind="changes",
            revision=outcome.revision,
            changes=[
                model.Change(
                    kind=change.kind,
                    key=change.id[2],
                    value=None if change.kind != "put" or is_trace(change.value) else Raw(change.value),
                    version=change.version,
                    create_revision=change.create_revision,
                    mod_revision=outcome.revision,
                    session=outcome.origin.session,
                    time=time,
                    purged=is_trace(change.value),
                )
                for change in changes
            ],
        )
    )


def public_entry(entry: Entry) -> model.Entry:
    """An entry as clients see it; the value stays the bytes it is."""
    return model.Entry(
        key=entry.id[2],
        value=Raw(entry.value),
        version=entry.version,
        create_revision=entry.create_revision,
        mod_revision=entry.mod_revision,
        session=entry.session,
        time=entry.time_ms / 1000,
        ttl_s=entry.ttl_ms / 1000,
        ephemeral=entry.owner,
    )
